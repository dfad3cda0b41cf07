package systemtest

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestOnline: the people's way into the ledger, over real servers.
func TestOnline(t *testing.T) {
	began := time.Now()
	o := GoOnline(t, 3, 10)
	t.Logf("online after %v", time.Since(began))
	o.OnDuty("o1", "o2")
	began = time.Now()
	o.Put(ledger.KindNotice, ledger.Notice{Text: "test", From: time.Now().Unix(), Until: time.Now().Unix() + 60})
	t.Logf("entry after %v", time.Since(began))
	began = time.Now()
	o.Kill("d3")
	o.Revive("d3")
	t.Logf("revived after %v", time.Since(began))
	o.StartProcess("s1")
	o.KillSite("s1")
	o.StartSite("s1")
	began = time.Now()
	o.Put(ledger.KindNotice, ledger.Notice{Text: "test", From: time.Now().Unix(), Until: time.Now().Unix() + 60})
	t.Logf("entry after %v", time.Since(began))
}
