package systemtest

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/approval"
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
	o.whole.Cleanup(func() { cancel(); wg.Wait() })
}

// Say lets f decide what persons say to an item: approval.Approve,
// approval.Reject, or nothing at all. They approve everything if it is nil. What
// they were silent about they are asked again.
func (o *Online) Say(f func(*client.Item) string, persons ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, who := range persons {
		o.words[who] = f
		o.again[who]++
	}
}

// Silent says nothing.
func Silent(*client.Item) string { return "" }

func (o *Online) duty(ctx context.Context, who, site string) {
	c, err := client.Dial(o.sites[site].row)
	if err != nil {
		o.whole.Error(err)
		return
	}
	defer c.Close()
	card, since, again := o.People[who][0], uint64(0), 0
	for ctx.Err() == nil {
		o.mu.Lock()
		if o.again[who] != again {
			since, again = 0, o.again[who]
		}
		o.mu.Unlock()
		officer, err := client.FindOfficer(o.Tables(), card.Describe().Serial, time.Now().Unix())
		var items [][]byte
		next := since
		if err == nil {
			items, next, err = c.InboxSince(ctx, officer, since, time.Second)
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
	decide := o.words[who]
	o.mu.Unlock()
	decision := approval.Approve
	if decide != nil {
		decision = decide(item)
	}
	keys := client.Keys{Sign: card, Agree: card.Exchange}
	var word []byte
	switch decision {
	case approval.Approve:
		word, err = item.Approve(rand.Reader, tables, keys, now)
	case approval.Reject:
		word, err = item.Reject(rand.Reader, tables, keys, "no", now)
	default:
		return
	}
	if err != nil {
		o.whole.Errorf("%s at %s: %v", who, item.Device.ID, err)
		return
	}
	_, _ = c.Say(ctx, word)
}
