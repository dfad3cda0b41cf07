package modexp

// NewPortable is New without what only some processors have.
func NewPortable(n []byte) (*Modulus, error) { return newModulus(n, 1) }
