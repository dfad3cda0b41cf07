// Package profile makes a TBSCertificate from a certificate request, on the
// requester's side. Devices do not trust what it makes: they check the result
// (firmware/document), whoever made it.
package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/document"
)

// Errors of this package.
var (
	// ErrUnknown: there is no profile of that name.
	ErrUnknown = errors.New("unknown profile")
	// ErrSubordinate: no key of this system may certify another authority yet.
	ErrSubordinate = errors.New("certificates for subordinate authorities are not issued")
	// ErrNames: the request holds no name that the profile can use.
	ErrNames = errors.New("no usable name in the CSR")
	// ErrValidity: the validity asked for is impossible.
	ErrValidity = errors.New("bad validity")
	// ErrRoot: the issuer's certificate cannot be used.
	ErrRoot = errors.New("bad issuer certificate")
)

// Kind of alternative name, by its tag in GeneralName (RFC 5280 4.2.1.6).
type nameKind uint8

const (
	nameEmail nameKind = 1
	nameDNS   nameKind = 2
	nameURI   nameKind = 6
	nameIP    nameKind = 7
)

func (k nameKind) String() string {
	switch k {
	case nameEmail:
		return "e-mail address"
	case nameDNS:
		return "DNS name"
	case nameURI:
		return "URI"
	case nameIP:
		return "IP address"
	}
	return fmt.Sprintf("name of type %d", uint8(k))
}

// Profile says what a certificate for one purpose holds.
type Profile struct {
	Name string
	// Help is one line for people.
	Help string
	// Days is the validity where none is asked for.
	Days uint64

	uses         []document.OID
	names        []nameKind // kinds of alternative names taken from the CSR
	needName     bool       // at least one
	fromCommon   bool       // the common name serves as DNS name where the CSR has none
	needSubject  bool
	encipherment bool // RSA keys may also transport keys
}

var profiles = []Profile{
	{
		Name: "server", Help: "a TLS server: host names and addresses", Days: 90,
		uses: []document.OID{document.UsageTLSServer}, names: []nameKind{nameDNS, nameIP},
		needName: true, fromCommon: true, encipherment: true,
	},
	{
		Name: "client", Help: "a TLS client: a person, a program or a machine", Days: 365,
		uses: []document.OID{document.UsageTLSClient}, names: []nameKind{nameDNS, nameIP, nameEmail, nameURI},
	},
	{
		Name: "code-signing", Help: "signatures on programs", Days: 365,
		uses: []document.OID{document.UsageCodeSigning}, needSubject: true,
	},
}

// Find returns a profile by its name.
func Find(name string) (Profile, error) {
	if name == "ca" || name == "sub-ca" || name == "subca" {
		return Profile{}, fmt.Errorf("%w: profile %q", ErrSubordinate, name)
	}
	for _, p := range profiles {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("%w %q: use one of %s", ErrUnknown, name, strings.Join(Names(), ", "))
}

// Names lists the profiles.
func Names() []string {
	var out []string
	for _, p := range profiles {
		out = append(out, p.Name)
	}
	return out
}

// All returns all profiles.
func All() []Profile { return slices.Clone(profiles) }
