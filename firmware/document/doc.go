// Package document says what may be signed.
//
// A request names a key, a document and a route. Before its officers are asked
// and before its share is opened, every device, and every officer's
// workstation, runs the same pure check over the document: Check for a key of
// family certificate or file, CheckIn with the system's tables for any family.
// The result, Checked, is the only thing that yields an encoded message, so
// that no device exponentiates what it did not understand. Checked.View shows
// officers what they sign.
//
// A key has one family for life (design §4). A certificate key signs only
// TBSCertificates that belong to a certificate request whose signature
// verifies. A file key signs files, but none that another reader would take
// for a certificate, a revocation list, an OCSP response, a certificate
// request or a command. The ledger key signs commands and a narrow kind of
// certificate for the system's own devices and officers.
package document
