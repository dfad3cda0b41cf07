package document

// berElement is one value as a lenient reader sees it: long, padded and
// indefinite lengths are taken.
type berElement struct {
	tag  byte // identifier octet
	body []byte
}

func (e berElement) constructed() bool { return e.tag&0x20 != 0 }

// readBER reads the element at the start of data (X.690 8.1). Tags of several
// octets and lengths beyond 2³¹ are not read: no structure sought has them.
func readBER(data []byte) (e berElement, rest []byte, ok bool) {
	budget := maxIndefinite
	return readBERWithin(data, &budget)
}

func readBERWithin(data []byte, budget *int) (e berElement, rest []byte, ok bool) {
	if len(data) < 2 || data[0]&0x1f == 0x1f {
		return e, nil, false
	}
	e.tag = data[0]
	n := int(data[1])
	data = data[2:]
	switch {
	case n == 0x80: // indefinite: until end-of-contents
		if !e.constructed() {
			return e, nil, false
		}
		e.body = data
		for len(data) > 0 {
			if *budget--; *budget < 0 {
				break
			}
			if len(data) >= 2 && data[0] == 0 && data[1] == 0 {
				e.body = e.body[:len(e.body)-len(data)]
				return e, data[2:], true
			}
			if _, data, ok = readBERWithin(data, budget); !ok {
				return e, nil, false
			}
		}
		// Too long to look for its end, or the end is missing: only its first fields
		// are of interest, and it is taken to hold all that follows.
		return e, nil, true
	case n > 0x80:
		octets := n & 0x7f
		if octets > len(data) {
			return e, nil, false
		}
		n = 0
		for _, c := range data[:octets] {
			if n = n<<8 | int(c); n > 1<<31 {
				return e, nil, false
			}
		}
		data = data[octets:]
	}
	if n > len(data) {
		return e, nil, false
	}
	e.body = data[:n]
	return e, data[n:], true
}

// A shape matches a structure by the types of its first fields. Class and form
// of each are compared, contents only where they tell structures apart.
type shape []func(berElement) bool

func isTag(tags ...byte) func(berElement) bool {
	return func(e berElement) bool {
		for _, t := range tags {
			if e.tag == t {
				return true
			}
		}
		return false
	}
}

var (
	isInteger  = isTag(0x02)
	isSequence = isTag(0x30)
	isBits     = isTag(0x03, 0x23)
)

// isAlgorithm: a SEQUENCE that begins with an object identifier.
func isAlgorithm(e berElement) bool { return e.tag == 0x30 && startsWith(e, 0x06) }

// isTime: UTCTime or GeneralizedTime.
var isTime = isTag(0x17, 0x18)

// isName: a SEQUENCE OF SET, perhaps empty.
func isName(e berElement) bool { return e.tag == 0x30 && (len(e.body) == 0 || startsWith(e, 0x31)) }

func startsWith(e berElement, tag byte) bool {
	child, _, ok := readBER(e.body)
	return ok && child.tag == tag
}

// isValidity: a SEQUENCE of two times.
func isValidity(e berElement) bool { return e.tag == 0x30 && fields(e, isTime, isTime) }

// isKey: a SubjectPublicKeyInfo.
func isKey(e berElement) bool { return e.tag == 0x30 && fields(e, isAlgorithm, isBits) }

// fields says whether e begins with fields of these shapes.
func fields(e berElement, want ...func(berElement) bool) bool {
	body := e.body
	for _, f := range want {
		child, rest, ok := readBER(body)
		if !ok || !f(child) {
			return false
		}
		body = rest
	}
	return true
}

// structures are what nobody may have signed as a file.
var structures = []struct {
	what   string
	shapes []shape
}{
	{"a TBSCertificate", []shape{ // RFC 5280 4.1
		{isTag(0xa0), isInteger, isAlgorithm, isName, isValidity, isName},
		{isInteger, isAlgorithm, isName, isValidity, isName},
	}},
	{"a TBSCertList", []shape{ // RFC 5280 5.1
		{isInteger, isAlgorithm, isName, isTime},
		{isAlgorithm, isName, isTime},
	}},
	{"an OCSP ResponseData", []shape{ // RFC 6960 4.2.1
		{isTag(0xa1, 0xa2), isTag(0x18), isSequence},
		{isTag(0xa0), isTag(0xa1, 0xa2), isTag(0x18), isSequence},
	}},
	{"an OCSP response", []shape{{isTag(0x0a), isOCSPBytes}}},
	{"a CertificationRequestInfo", []shape{{isInteger, isName, isKey}}}, // RFC 2986 4.1
	{"an AttributeCertificateInfo", []shape{ // RFC 5755 4.1
		{isInteger, isSequence, isTag(0xa0, 0x30), isAlgorithm, isInteger, isValidity},
	}},
}

// isOCSPBytes: [0] EXPLICIT ResponseBytes.
func isOCSPBytes(e berElement) bool {
	return e.tag == 0xa0 && fields(e, func(e berElement) bool { return e.tag == 0x30 && fields(e, isTag(0x06), isTag(0x04)) })
}

// contentType is the DER of the CMS attribute contentType, which every set of
// signed attributes holds (RFC 5652 5.3).
var contentType = []byte(mustOID("1.2.840.113549.1.9.3"))

// recognise names the structure that e is, or returns "".
func recognise(e berElement) string {
	switch e.tag {
	case 0x30:
		for _, s := range structures {
			for _, shape := range s.shapes {
				if fields(e, shape...) {
					return s.what
				}
			}
		}
	case 0x31, 0xa0:
		// A signature on these is a CMS signature on another document, the one whose
		// digest they hold.
		if isSignedAttributes(e.body) {
			return "a set of CMS signed attributes"
		}
	}
	return ""
}

// isSignedAttributes: a SET OF Attribute, one of which is contentType.
func isSignedAttributes(body []byte) bool {
	found := false
	for n := 0; len(body) > 0; n++ {
		attribute, rest, ok := readBER(body)
		if !ok || n > maxSiblings || attribute.tag != 0x30 || !fields(attribute, isTag(0x06), isTag(0x31)) {
			return false
		}
		id, _, _ := readBER(attribute.body)
		found = found || string(id.body) == string(contentType)
		body = rest
	}
	return found
}
