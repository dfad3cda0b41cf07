package client

import (
	"fmt"

	"github.com/privyseal/privyseal/firmware/document"
)

// checkSecret refuses a file that is a private key before it leaves the machine:
// requests are kept by servers and read by officers.
func checkSecret(name string, file []byte) error {
	kind := document.PrivateKey(file)
	if kind == "" {
		return nil
	}
	return fmt.Errorf("%q is a private key (%s), and a request shows it to servers, devices and officers: "+
		"name the file that you mean", document.Escape(name), kind)
}
