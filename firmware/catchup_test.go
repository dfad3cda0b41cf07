package firmware_test

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLongCatchup: a device takes a ledger that fits into no message, page by
// page; one that is interrupted goes on where it was, and what does not fit
// changes nothing.
func TestLongCatchup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.WithManyPersons())
	all := w.Long(t, 130)
	give := func(entries [][]byte) (*firmware.Status, error) {
		st, _, err := ask[firmware.Status](w, "device-1", firmware.TypeCatchup, firmware.Catchup{Entries: entries}, firmware.TypeStatus)
		return st, err
	}
	const page = 8
	began, size, height := time.Now(), 0, 0
	for height < len(all) {
		if height == 5*page {
			w.devices["device-1"].Restart(t)
			_, err := give(all[height+1 : height+2])
			w.want("one left out", err, firmware.CodeLedger, "does not follow")
			bad := append([][]byte{all[height]}, []byte{0xa0})
			_, err = give(bad)
			w.want("no entry", err, firmware.CodeMessage, "")
			_, err = give(make([][]byte, firmware.MaxCatchup+1))
			w.want("too many", err, firmware.CodeMessage, "at most")
		}
		from := max(0, height-1) // one again
		st, err := give(all[from:min(height+page, len(all))])
		w.check(err)
		if int(st.Height) != min(height+page, len(all)) {
			t.Fatalf("%d entries after those up to %d", st.Height, height+page)
		}
		height = int(st.Height)
	}
	for _, e := range all {
		size += len(e)
	}
	if size < 4<<20 {
		t.Errorf("%d octets are not long", size)
	}
	t.Logf("%d entries of %d octets in %v", height, size, time.Since(began))
	began = time.Now()
	w.devices["device-1"].Restart(t)
	t.Logf("a start in %v", time.Since(began))
	st, err := give(nil)
	w.check(err)
	if st.Height != uint64(len(all)) {
		t.Errorf("%d entries after a restart", st.Height)
	}
	var x ledger.SignedEntry
	w.check(envelope.Unmarshal(all[len(all)-1], &x))
	if v, err := envelope.Parse(w.said["device-1"][len(w.said["device-1"])-1]); err != nil || v.Header().LedgerHead != ledger.EntryHash(x.Entry) {
		t.Errorf("another head: %v", err)
	}
}
