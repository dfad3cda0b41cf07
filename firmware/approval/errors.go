package approval

import (
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// FormError is a well-signed payload that contradicts itself, its header, or its purpose.
type FormError struct {
	What string // "approval by \"officer-1a\"" or "offer by \"device-1\""
	Why  string
}

func (e *FormError) Error() string { return "approval: " + e.What + ": " + e.Why }

// UnknownSignerError is a message signed by a key that is in no table.
type UnknownSignerError struct{ Key envelope.KeyID }

func (e *UnknownSignerError) Error() string {
	return fmt.Sprintf("approval: signed by key %v, which this system does not know", e.Key)
}

// WrongSignerError is a message signed by a known key that may not sign it: a server's or a device's, an agreement key, a software
// key, a card that is not the registered one.
type WrongSignerError struct {
	Owner string // "person \"x\"" and so on
	Why   string
}

func (e *WrongSignerError) Error() string {
	return fmt.Sprintf("approval: signed by %s: %s", e.Owner, e.Why)
}

// UnknownHeadError is a message whose signer knows a ledger head that this device does not: it must catch up first.
type UnknownHeadError struct {
	From string
	Head envelope.Hash
}

func (e *UnknownHeadError) Error() string {
	return fmt.Sprintf("approval: %s knows ledger head %v, which is not in this chain: catch up", e.From, e.Head)
}

// RequesterApprovedError is an approval by the requester himself, on whatever card.
type RequesterApprovedError struct {
	Person, Name string
	Card         uint32
}

func (e *RequesterApprovedError) Error() string {
	return fmt.Sprintf("approval: %s (%s) made the request and cannot approve it, on card %d or any other", e.Name, e.Person, e.Card)
}

// WrongDeviceError is an approval by an officer of another device, or one given for another device.
type WrongDeviceError struct {
	Person, Name string
	Registered   []string // devices he serves
	Approved     string   // device that the approval names
	Want         string   // device that asks
}

func (e *WrongDeviceError) Error() string {
	return fmt.Sprintf("approval: %s (%s), officer of %s, approved for %s, not for %s",
		e.Name, e.Person, strings.Join(e.Registered, ", "), e.Approved, e.Want)
}

// NotOfficerError is an approval by a person who is nobody's officer, or not for this key.
type NotOfficerError struct {
	Person, Name string
	Device, Key  string
	Why          string
}

func (e *NotOfficerError) Error() string {
	return fmt.Sprintf("approval: %s (%s) cannot approve for key %s at %s: %s", e.Name, e.Person, e.Key, e.Device, e.Why)
}

// OfficerExpiredError is an approval by an officer whose registration is over.
type OfficerExpiredError struct {
	Person, Name, Device string
	Expired, Now         int64
}

func (e *OfficerExpiredError) Error() string {
	return fmt.Sprintf("approval: registration of %s (%s) at %s expired %d s ago", e.Name, e.Person, e.Device, e.Now-e.Expired)
}

// WrongRequestError is an approval of another request, or of another document, whose digest it names.
type WrongRequestError struct {
	From      string
	Got, Want envelope.Hash
}

func (e *WrongRequestError) Error() string {
	return fmt.Sprintf("approval: %s is for request %v, not for %v: it was given for another request or document", e.From, e.Got, e.Want)
}

// MismatchError is an approval or offer that names another system, key, epoch or share than the request and the tables.
type MismatchError struct {
	From      string
	Field     string
	Got, Want string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("approval: %s names %s %.64q, expected %q", e.From, e.Field, e.Got, e.Want)
}

// ExpiredError is an approval, offer or request whose time is over.
type ExpiredError struct {
	From         string
	Expired, Now int64
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("approval: %s expired %d s ago", e.From, e.Now-e.Expired)
}

// TimeError is an approval or offer dated in the future or outside the request's life.
type TimeError struct {
	From string
	Why  string
}

func (e *TimeError) Error() string { return "approval: " + e.From + ": " + e.Why }

// RejectedError is an officer's refusal. It is not counted against approvals: one word against ends the matter, and the requester
// may ask again.
type RejectedError struct {
	Person, Name string
	Reason       string
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("approval: %s (%s) rejected the request: %q", e.Name, e.Person, e.Reason)
}

// DuplicateError is a second approval by the same person, on the same card or another.
type DuplicateError struct {
	Person, Name string
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("approval: %s (%s) approved twice: a quorum counts persons", e.Name, e.Person)
}

// MissingError says how many approvals are missing and who could give them.
type MissingError struct {
	Device  string
	Need    int
	Have    int
	Missing []string // names of officers who have not approved and may, in the order of the tables
}

func (e *MissingError) Error() string {
	who := "nobody else may: register more officers"
	if len(e.Missing) > 0 {
		who = "missing: " + strings.Join(e.Missing, ", ")
	}
	return fmt.Sprintf("approval: %d of %d officers of %s approved; %s", e.Have, e.Need, e.Device, who)
}

// QuorumError is a quorum that no table should contain: a gate left open is refused, not passed.
type QuorumError struct {
	Device, Key string
	Quorum      uint64
}

func (e *QuorumError) Error() string {
	return fmt.Sprintf("approval: quorum of %s for key %s is %d: refused", e.Device, e.Key, e.Quorum)
}

// ChainError is a chain that is not what it must be: it does not begin at the base, does not end, or holds something else.
type ChainError struct {
	Depth int // 0 is the outermost approval
	Why   string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("approval: chain, link %d: %s", e.Depth, e.Why)
}

// InstanceError reports an offer that the running device did not make: a copy of it did, or nobody has opened the device since it
// started.
type InstanceError struct {
	From string
	Err  error
}

func (e *InstanceError) Error() string {
	return fmt.Sprintf("approval: %s %v: a copy of the device may have made it", e.From, e.Err)
}

func (e *InstanceError) Unwrap() error { return e.Err }
