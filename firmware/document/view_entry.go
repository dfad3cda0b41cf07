package document

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// longNotice is how long maintenance may last before officers are told what it suspends meanwhile.
const longNotice = 30 * day

// entryView shows a command of the ledger, and what follows from it in the state that it is checked against.
func entryView(v *View, s ledger.State, e *ledger.Entry) {
	v.Title = fmt.Sprintf("Command %d of the ledger: %s", e.Position, Escape(e.Kind))
	v.section("What it does")
	var n ledger.Notice
	var b ledger.Backup
	var d ledger.Dealing
	switch {
	case e.Kind == ledger.KindNotice && envelope.Unmarshal(e.Body, &n) == nil:
		noticeView(v, s, &n)
	case e.Kind == ledger.KindBackup && envelope.Unmarshal(e.Body, &b) == nil:
		backupView(v, s, &b)
	case e.Kind == ledger.KindDealing && envelope.Unmarshal(e.Body, &d) == nil:
		dealingView(v, s, &d)
	default:
		v.warn("this kind of command is not decoded here")
		v.raw("body", hex.EncodeToString(e.Body))
	}
	v.section("Place in the chain")
	v.raw("position", fmt.Sprint(e.Position))
	v.raw("follows", e.Prev.String())
	v.raw("drafted", formatTime(e.Created))
}

func noticeView(v *View, s ledger.State, n *ledger.Notice) {
	device := "all devices"
	if n.Device != "" {
		device = "device " + n.Device
	}
	v.raw("effect", "announces maintenance")
	v.text("for", device)
	v.text("text", n.Text)
	v.raw("from", formatTime(n.From))
	v.raw("until", formatTime(n.Until))
	var destroying []string
	for _, d := range s.Devices() {
		if d.Heartbeat != nil && d.Heartbeat.Destroy > 0 && (n.Device == "" || n.Device == d.ID) {
			destroying = append(destroying, d.ID)
		}
	}
	if destroying == nil {
		return
	}
	v.text("no destruction", slices.Concat([]string{"meanwhile these devices destroy nothing, however long they hear no beats:"}, destroying)...)
	if n.Until-n.From > longNotice {
		v.warn("for %s a stolen device would keep its shares, locked as they are", days(n.Until-n.From))
	}
}

// backupView says when the device may destroy something from then on: that is what officers decide here.
func backupView(v *View, s ledger.State, b *ledger.Backup) {
	v.raw("effect", "puts on record that there is a tested off-line backup of a share")
	v.text("device", b.Device)
	v.text("share", b.Share)
	for _, k := range s.Keys() {
		if h, ok := s.HolderOf(k.ID, b.Device); ok && h.Share == b.Share {
			v.text("of key", k.ID+", "+k.Name)
		}
	}
	v.text("kept at", b.Place)
	v.raw("restoration tried", formatTime(b.Tested))
	d, ok := s.Device(b.Device)
	missing := slices.DeleteFunc(s.MissingBackups(b.Device), func(share string) bool { return share == b.Share })
	switch {
	case !ok || d.Heartbeat == nil || d.Heartbeat.Destroy == 0:
		v.raw("what follows", "nothing: by its policy the device never destroys a share")
	case len(missing) > 0:
		v.text("what follows", "the device destroys nothing yet: no backup is on record of "+strings.Join(missing, ", "))
	case s.MayDestroy(b.Device):
		v.raw("what follows", "the device may destroy its shares after "+span(d.Heartbeat.Destroy)+" without beats, as before")
	default:
		v.warn("from this command on device %s destroys its shares once it was powered for %s without beats", Escape(b.Device), span(d.Heartbeat.Destroy))
		v.raw("what follows", "every share of the device has a backup on record: it may destroy them",
			"only a maintenance notice suspends that, and only a restore brings the device back",
			"approve if you know that the backups are there and can be read")
	}
}

// span writes a length of time in seconds: days, or less than two of them as hours, minutes and seconds.
func span(seconds uint64) string {
	if seconds >= 2*day {
		return days(int64(seconds))
	}
	return (time.Duration(seconds) * time.Second).String()
}
