package hsm

import (
	"strings"

	"github.com/miekg/pkcs11"
)

// vendor is what a family of tokens does differently and its mechanism list
// does not tell.
type vendor struct {
	manufacturer, model string // prefixes of CK_TOKEN_INFO; "" matches all
	noDataObjects       bool   // keep shares in files instead
	rawPoint            bool   // CKA_EC_POINT is the bare point, not an OCTET STRING
	label               string // for people
}

// vendors is the one table of differences, first match wins. Only SoftHSM2 is
// tested against; the others are from their documentation, and SelfTest decides
// about exponents in the token in any case.
var vendors = []vendor{
	{label: "SoftHSM2", manufacturer: "SoftHSM project", model: "SoftHSM v2"},
	// No AES-GCM, and known DH groups only: shares are used in the host.
	{label: "YubiHSM 2", manufacturer: "Yubico", model: "YubiHSM"},
	// No symmetric keys at all on older cards.
	{label: "SmartCard-HSM", manufacturer: "www.CardContact.de"},
	{label: "NSS", manufacturer: "Mozilla", noDataObjects: true, rawPoint: true},
	{label: "PKCS#11"},
}

func vendorOf(info pkcs11.TokenInfo) vendor {
	for _, v := range vendors {
		if strings.HasPrefix(info.ManufacturerID, v.manufacturer) && strings.HasPrefix(info.Model, v.model) {
			return v
		}
	}
	return vendors[len(vendors)-1]
}
