package threshold

// Primes reveals the factors of a key to tests.
func (k *WholeKey) Primes() (p, q []byte) { return k.private().p.Bytes(), k.private().q.Bytes() }

// MulAdd is mulAdd.
var MulAdd = mulAdd
