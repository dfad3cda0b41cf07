package modexp

// NewPortable is New without what only some processors have.
func NewPortable(n []byte) (*Modulus, error) { return newModulus(n, 1) }

// Vectors is vectors.
func (m *Modulus) Vectors() int { return m.vectors() }

// Lanes is lanes; Compare is compare.
const Lanes = lanes

var Compare = compare
