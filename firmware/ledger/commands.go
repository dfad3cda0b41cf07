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
	KindNotice:  checkNotice,
	KindBackup:  checkBackup,
	KindDealing: checkDealingEntry,
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
	dealt, ok := s.sharedAt(b.Device, b.Share)
	if !ok {
		return nil, fmt.Errorf("device %q holds no share %.130q", b.Device, b.Share)
	}
	if err := checkName("place", b.Place, maxName); err != nil {
		return nil, err
	}
	if b.Tested < dealt || b.Tested > e.Created {
		return nil, fmt.Errorf("tested at %d, not between the ceremony or dealing (%d) and this entry (%d)", b.Tested, dealt, e.Created)
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

// sharedAt says when the share that a device holds was dealt: in the ceremony, or by a distributor.
func (s State) sharedAt(device, share string) (dealt int64, ok bool) {
	t := s.tables()
	for i := range t.genesis.Keys {
		if h, ok := holderOf(&t.genesis.Keys[i], device); ok && h.Share == share {
			return t.genesis.Ceremony.NotBefore, true
		}
	}
	for _, a := range s.authorities {
		for _, m := range a.machines {
			if !m.gone && m.row.Device == device && m.row.Share == share {
				return m.dealt, true
			}
		}
	}
	return 0, false
}
