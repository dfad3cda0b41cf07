package threshold

// Factors returns copies of the two prime factors, big-endian, for packages that
// deal a key in ways of their own. The caller wipes them. It returns ErrWiped
// after Wipe.
func (k *WholeKey) Factors() (p, q Secret, err error) {
	if k.erased {
		return Secret{}, Secret{}, ErrWiped
	}
	return NewSecret(k.private().p.Bytes()), NewSecret(k.private().q.Bytes()), nil
}
