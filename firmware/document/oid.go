package document

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// OID is an object identifier as its DER content octets. Unlike
// asn1.ObjectIdentifier it is comparable, and its arcs have no upper limit: an
// officer must be able to read every identifier that a verifier may meet.
type OID string

// String returns the dotted decimal form.
func (o OID) String() string {
	if len(o) == 0 {
		return ""
	}
	var b strings.Builder
	arc, first := new(big.Int), true
	for i := 0; i < len(o); i++ {
		arc.Lsh(arc, 7).Or(arc, big.NewInt(int64(o[i]&0x7f)))
		if o[i]&0x80 != 0 {
			continue
		}
		if first {
			// X.690 8.19.4: the first octets hold 40·x + y, x in {0, 1, 2}.
			x := int64(2)
			if arc.Cmp(big.NewInt(80)) < 0 {
				x = arc.Int64() / 40
			}
			fmt.Fprintf(&b, "%d.%s", x, arc.Sub(arc, big.NewInt(40*x)))
			first = false
		} else {
			b.WriteByte('.')
			b.WriteString(arc.String())
		}
		arc = new(big.Int)
	}
	return b.String()
}

// mustOID makes an OID from its dotted form; for the tables of this package.
func mustOID(dotted string) OID {
	parts := strings.Split(dotted, ".")
	arcs := make([]uint64, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 63)
		if err != nil {
			panic("document: bad object identifier " + dotted)
		}
		arcs[i] = n
	}
	out := base128(nil, arcs[0]*40+arcs[1])
	for _, a := range arcs[2:] {
		out = base128(out, a)
	}
	return OID(out)
}

func base128(dst []byte, n uint64) []byte {
	var tmp [10]byte
	i := len(tmp) - 1
	tmp[i] = byte(n & 0x7f)
	for n >>= 7; n > 0; n >>= 7 {
		i--
		tmp[i] = byte(n&0x7f) | 0x80
	}
	return append(dst, tmp[i:]...)
}

// validOID says whether der is the content of a DER object identifier: not
// empty, every arc complete and without leading zero octets (X.690 8.19.2).
func validOID(der []byte) bool {
	if len(der) == 0 || der[len(der)-1]&0x80 != 0 {
		return false
	}
	start := true
	for _, c := range der {
		if start && c == 0x80 {
			return false
		}
		start = c&0x80 == 0
	}
	return true
}
