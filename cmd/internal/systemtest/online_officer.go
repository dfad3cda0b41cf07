package systemtest

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
)

// OnDuty has persons approve at all sites whatever their inboxes hold, as soon
// as it is there, until the test ends. Say decides otherwise.
func (o *Online) OnDuty(persons ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, who := range persons {
		for id := range o.sites {
			wg.Go(func() { o.duty(ctx, who, id) })
		}
	}
	o.t.Cleanup(func() { cancel(); wg.Wait() })
}

// Say lets f decide what a person approves; nil approves all.
func (o *Online) Say(person string, f func(*client.Item) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.words[person] = f
}

func (o *Online) duty(ctx context.Context, who, site string) {
	c, err := client.Dial(o.sites[site].row)
	if err != nil {
		o.t.Error(err)
		return
	}
	defer c.Close()
	card, since := o.People[who][0], uint64(0)
	for ctx.Err() == nil {
		officer, err := client.FindOfficer(o.Tables(), card.Describe().Serial, time.Now().Unix())
		var items [][]byte
		next := since
		if err == nil {
			items, next, err = c.InboxSince(ctx, officer, since, 2*time.Second)
		}
		if err != nil { // no officer yet, or the server is away and counts anew
			since = 0
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		since = next
		for _, sealed := range items {
			o.approve(ctx, c, officer, who, card, sealed)
		}
	}
}

// approve says yes to one item. What was overtaken meanwhile comes again.
func (o *Online) approve(ctx context.Context, c *client.Conn, officer *client.Officer, who string, card *firmwaretest.Card, sealed []byte) {
	tables, now := o.Tables(), time.Now().Unix()
	item, err := client.OpenItem(tables, officer, card.Exchange, sealed, now)
	if err != nil {
		return
	}
	o.mu.Lock()
	wants := o.words[who]
	o.mu.Unlock()
	if wants != nil && !wants(item) {
		return
	}
	word, err := item.Approve(rand.Reader, tables, client.Keys{Sign: card, Agree: card.Exchange}, now)
	if err != nil {
		o.t.Errorf("%s approves at %s: %v", who, item.Device.ID, err)
		return
	}
	_, _ = c.Say(ctx, word)
}
