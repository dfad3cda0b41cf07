package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// commands are the kinds of entries. A check reads the entry's body and refuses it if it cannot be applied to s; what it returns applies
// it. It looks at the state and the entry alone, never at a clock: the fold must be the same everywhere.
var commands = map[string]func(s State, e *Entry) (effect, error){
	KindNotice: checkNotice,
	KindBackup: checkBackup,
}

func checkNotice(s State, e *Entry) (effect, error) {
	var n Notice
	if err := envelope.Unmarshal(e.Body, &n); err != nil {
		return nil, err
	}
	if err := checkName("text", n.Text, maxText); err != nil {
		return nil, err
	}
	if err := errors.Join(checkTime("from", n.From), checkTime("until", n.Until)); err != nil {
		return nil, err
	}
	if n.Until <= n.From || n.Until <= e.Created {
		return nil, fmt.Errorf("window from %d until %d is empty or over", n.From, n.Until)
	}
	if n.Device != "" {
		if _, ok := s.tables().devices[n.Device]; !ok {
			return nil, fmt.Errorf("device %.64q is unknown", n.Device)
		}
	}
	// Those that are over are dropped, by the entry's time and not by a clock: the fold must be the same everywhere.
	var live []Notice
	for _, old := range s.notices {
		if old.Until > e.Created {
			live = append(live, old)
		}
	}
	if len(live) >= maxNotices {
		return nil, fmt.Errorf("there are %d notices already: let some expire", len(live))
	}
	live = append(live, n)
	return func(s State) State { s.notices = live; return s }, nil
}

// checkBackup reads what officers state of a share's backup. Nothing here can prove that the backup is there: this is what the quorum of
// quorums is asked before a device may destroy something. A newer test replaces the record of an older one.
func checkBackup(s State, e *Entry) (effect, error) {
	var b Backup
	if err := envelope.Unmarshal(e.Body, &b); err != nil {
		return nil, err
	}
	if _, ok := s.tables().devices[b.Device]; !ok {
		return nil, fmt.Errorf("device %.64q is unknown", b.Device)
	}
	if !s.holdsShare(b.Device, b.Share) {
		return nil, fmt.Errorf("device %q holds no share %.130q", b.Device, b.Share)
	}
	if err := checkName("place", b.Place, maxName); err != nil {
		return nil, err
	}
	// The share was dealt in the ceremony.
	if low := s.tables().genesis.Ceremony.NotBefore; b.Tested < low || b.Tested > e.Created {
		return nil, fmt.Errorf("tested at %d, not between the ceremony (%d) and this entry (%d)", b.Tested, low, e.Created)
	}
	i, found := slices.BinarySearchFunc(s.backups, b.Share, func(x Backup, share string) int { return cmp.Compare(x.Share, share) })
	if found && b.Tested < s.backups[i].Tested {
		return nil, fmt.Errorf("tested at %d, yet a test at %d is on record: an older one replaces nothing", b.Tested, s.backups[i].Tested)
	}
	// States that were made before share their slices with this one: a copy.
	next := slices.Clone(s.backups)
	if found {
		next[i] = b
	} else {
		next = slices.Insert(next, i, b)
	}
	return func(s State) State { s.backups = next; return s }, nil
}

func (s State) holdsShare(device, share string) bool {
	return slices.ContainsFunc(s.tables().genesis.Keys, func(k Key) bool {
		h, ok := holderOf(&k, device)
		return ok && h.Share == share
	})
}
