package document

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// A batch is one request for many certificates. Officers approve all of them or
// none, with one signature for each device, and every device does once for all
// what is not exponentiation. A document that is not acceptable makes the whole
// request so: what was not shown to be right as a whole is not signed in parts.

// ErrBatch: a batch is too large, or has the same thing twice.
var ErrBatch = fmt.Errorf("%w: batch", ErrRequest)

// MaxBatch is how many certificates a batch of a key may have; 0 if the key signs no
// batches.
func MaxBatch(key *ledger.Key) int {
	if key.Family != ledger.FamilyCertificate || key.Scheme != threshold.TwoLayer || key.Layers == nil {
		return 0
	}
	octets := maxPower * len(key.Public.N) * int(key.Layers.Grouping.L) * int(key.N)
	return max(1, min(maxBatch, maxBatchPowers/max(1, octets)))
}

// checkBatch checks a request of KindCertificates.
func checkBatch(req *Request, key *ledger.Key, now int64) (*Checked, error) {
	if err := req.only(fieldBatch); err != nil {
		return nil, err
	}
	switch most := MaxBatch(key); {
	case most == 0:
		return nil, fmt.Errorf("%w: key %q is shared for %s signing, and only keys in two layers sign batches: make a request for each certificate", ErrBatch, key.ID, ModeOf(key))
	case len(req.Batch) > most:
		return nil, fmt.Errorf("%w: %d certificates, key %q signs %d at once: make several requests", ErrBatch, len(req.Batch), key.ID, most)
	}
	size := 0
	for i := range req.Batch {
		size += len(req.Batch[i].Document) + len(req.Batch[i].CSR)
	}
	if size > maxBatchOctets {
		return nil, fmt.Errorf("%w: %d octets, more than %d: make several requests", ErrBatch, size, maxBatchOctets)
	}
	if err := checkWeight(req.Batch); err != nil {
		return nil, err
	}
	root, err := parseRoot(key.Certificate, key)
	if err != nil {
		return nil, err
	}
	batch := &Checked{family: key.Family, algorithm: req.Algorithm, public: key.Public, until: req.Expires}
	serials, like := map[string]int{}, twins{}
	var digests [][]byte
	for i := range req.Batch {
		bad := func(err error) error { return fmt.Errorf("certificate %d of %d: %w", i+1, len(req.Batch), err) }
		c, err := checkDraft(&req.Batch[i], req.Algorithm, root, key, now)
		if err != nil {
			return nil, bad(err)
		}
		// RFC 5280 4.1.2.2; equal documents have equal ones.
		serial := string(c.certificate.tbs.Serial)
		if first, ok := serials[serial]; ok {
			return nil, bad(fmt.Errorf("%w: serial number %x is that of certificate %d", ErrBatch, serial, first))
		}
		serials[serial] = i + 1
		like.note(c.certificate, i+1)
		part, err := newChecked(req.Batch[i].Document, req.Algorithm, &key.Public, key.Family, c)
		if err != nil {
			return nil, bad(err)
		}
		part.kind, part.number = KindCertificate, uint64(i+1)
		batch.parts, batch.until = append(batch.parts, part), min(batch.until, part.until)
		digests = append(digests, part.digest)
	}
	all := envelope.HashOf("privyseal/v1 document: batch", digests...)
	batch.digest = all[:]
	batch.content = &content{view: batch.viewParts}
	return batch.of(req, key), nil
}

// twins are the numbers of the first certificates of a batch by what another one
// might have alike. That may be meant; among a hundred nobody sees it.
type twins map[string]int

// note has officers warned of what a certificate has in common with an earlier one.
func (like twins) note(c *certificateContent, number int) {
	for what, value := range map[string]string{
		"subject and names": c.name() + "\n" + strings.Join(linesOf(c.facts.names), "\n"),
		"public key":        string(c.tbs.SPKI),
	} {
		value = what + "\n" + value
		if first, ok := like[value]; ok {
			c.alike = append(c.alike, fmt.Sprintf("it has the %s of certificate %d", what, first))
		} else {
			like[value] = number
		}
	}
	slices.Sort(c.alike)
}

// Parts are the documents of a request, in the order of their signatures: those
// of a batch, or the only one.
func (c *Checked) Parts() []*Checked {
	if c.parts == nil {
		return []*Checked{c}
	}
	return c.parts
}

// requestOf is what stands for the request in the salt of a document: no two
// documents of a batch have the same.
func (c *Checked) requestOf(request envelope.Hash) envelope.Hash {
	if c.number == 0 || request.IsZero() {
		return request
	}
	return envelope.HashOf("privyseal/v1 document: part", request[:], binary.BigEndian.AppendUint64(nil, c.number))
}

// EncodedMessages returns the encoded message of each document.
func (c *Checked) EncodedMessages(request envelope.Hash) ([][]byte, error) {
	var out [][]byte
	for _, part := range c.Parts() {
		x, err := part.EncodedMessage(request)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// AssembleAll verifies a signature of each document and returns what the
// requester gets for each: all, or an error.
func (c *Checked) AssembleAll(signatures [][]byte) ([][]byte, error) {
	parts := c.Parts()
	if len(signatures) != len(parts) {
		return nil, fmt.Errorf("%w: %d signatures of %d documents", threshold.ErrSignature, len(signatures), len(parts))
	}
	var out [][]byte
	for i, part := range parts {
		doc, err := part.Assemble(signatures[i])
		if err != nil {
			if c.parts != nil {
				err = fmt.Errorf("certificate %d of %d: %w", i+1, len(parts), err)
			}
			return nil, err
		}
		out = append(out, doc)
	}
	return out, nil
}

// viewParts shows officers every certificate of a batch, one after the other.
func (c *Checked) viewParts(v *View) {
	n := len(c.parts)
	var names []string
	for i, part := range c.parts {
		name := part.content.certificate.name()
		if i < titleNames {
			names = append(names, clip(name))
		}
		v.section(fmt.Sprintf("Certificate %d of %d", i+1, n))
		v.raw("for", name)
		p := part.View()
		for _, s := range p.Sections {
			s.Title = fmt.Sprintf("Certificate %d: %s", i+1, s.Title)
			v.Sections = append(v.Sections, s)
		}
		for _, w := range p.Warnings {
			v.warn("certificate %d: %s", i+1, w)
		}
	}
	v.Title = fmt.Sprintf("Batch of %d certificates: %s", n, strings.Join(names, "; "))
	if n > titleNames {
		v.Title += fmt.Sprintf("; and %d more", n-titleNames)
	}
}

// clip shortens a name for a title. The whole of it stands in the sections.
func clip(name string) string {
	if r := []rune(name); len(r) > titleName {
		return strings.TrimRight(string(r[:titleName]), " ") + "..."
	}
	return name
}
