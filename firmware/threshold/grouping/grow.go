package grouping

// Grow adds calculators and combiners, and the combinations that then serve
// every machine set; those that are there stay, in their places, and new ones
// are appended. Of the parameters it heeds Combiners, Calculators, Redundant and
// Budget. The error is ErrGrouping, an *UnsafeError (the grouping was not safe
// before), an *ImpossibleError or a *NotFoundError.
func (g *Grouping) Grow(calculators, combiners []uint64, p Params, progress func(Progress)) (*Grouping, error) {
	return nil, &NotFoundError{Params: p}
}
