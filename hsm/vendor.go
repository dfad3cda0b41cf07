package hsm

import (
	"strings"

	"github.com/miekg/pkcs11"
)

// vendor is what a family of tokens does differently and its mechanism list
// does not tell.
type vendor struct {
	label               string // for people
	manufacturer, model string // prefixes in CK_TOKEN_INFO; "" matches all
	noDataObjects       bool   // keep shares in files instead
}

// vendors is the one table of differences; the first match wins. Most of what
// sets tokens apart needs no row: YubiHSM 2 and tpm2-pkcs11 without AES-GCM,
// SmartCard-HSM without symmetric keys say so in their mechanism lists, and
// tokens that take known Diffie-Hellman groups only fail SelfTest.
var vendors = []vendor{
	{label: "SoftHSM2", manufacturer: "SoftHSM project", model: "SoftHSM v2"},
	{label: "NSS", manufacturer: "Mozilla", noDataObjects: true},
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
