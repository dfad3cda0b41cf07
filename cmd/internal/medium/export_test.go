package medium

// InPages is a system of [SystemOf] whose pages are of at most so many octets: a
// short ledger has many.
func InPages(s System, entries [][]byte, octets int) System {
	s.pages = cut(entries, octets)
	return s
}
