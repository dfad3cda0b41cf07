package tolerant

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// issued is a request that was signed.
type issued struct {
	enterprise, distributor, task uint64
	request, signatures           envelope.Hash
	seen, since                   int64 // since when its distributor is waited for
	size, documents               int
	record                        *api.Issued // nil when it is settled and durable
	version, durable              uint64
	again                         int64 // when it is handed out again
	settled                       bool  // nothing will be added to it
}

// shelf is what is kept of an enterprise.
type shelf struct {
	all    []*issued // oldest first
	octets int
	fresh  held
}

// Resume takes what an earlier run kept, in any order, before anything else.
func (o *Output) Resume(now int64, x api.Issued) OutputEffects {
	return o.step(now, func() {
		if o.issued[x.Request] != nil {
			return
		}
		is := &issued{
			enterprise: x.Enterprise, distributor: x.Distributor, task: x.Task, request: x.Request,
			signatures: signaturesHash(x.Signatures), seen: x.Seen, since: o.now, size: sizeOf(&x), documents: len(x.Signatures), version: 1, durable: 1, settled: x.Done != 0 || x.Silent != 0,
		}
		if !is.settled {
			is.record = &x
		}
		o.add(is)
	})
}

func signaturesHash(signatures [][]byte) envelope.Hash {
	return envelope.HashOf("privyseal signatures", signatures...)
}

func sizeOf(x *api.Issued) int {
	n := len(x.Message)
	for _, b := range slices.Concat(x.Signatures, x.Documents) {
		n += len(b)
	}
	return n
}

// release finishes the documents and keeps them, once. from is empty if only the
// distributor has shown the signatures.
func (o *Output) release(w *watched, signatures [][]byte, from string) {
	t := w.t
	documents, err := o.finish(t, signatures)
	if err != nil {
		// The signatures verify, so no combiner is at fault; the documents are no
		// use, and will not be.
		w.unsound = true
		o.drop(t)
		o.alarm("", t.number.owner(), "finished", "request %s, task %d of distributor %d of enterprise %d, was signed, and the finished document is not acceptable: %s",
			t.about.Digest, t.number.task, t.number.distributor, t.number.enterprise, document.Escape(clip(err.Error())))
		return
	}
	x := api.Issued{
		Server: o.cfg.Site, Enterprise: t.number.enterprise, Distributor: t.number.distributor, Task: t.number.task, Request: t.about.Digest,
		Message: t.raw, Documents: documents, Combiners: []string{}, Wrong: append([]string{}, w.named...), Seen: o.now,
	}
	for _, s := range signatures {
		x.Signatures = append(x.Signatures, bytes.Clone(s))
	}
	if from != "" {
		x.Combiners = append(x.Combiners, from)
	}
	is := &issued{
		enterprise: x.Enterprise, distributor: x.Distributor, task: x.Task, request: x.Request,
		signatures: signaturesHash(signatures), seen: o.now, since: o.now, size: sizeOf(&x), documents: len(x.Signatures), record: &x,
	}
	if h := o.shelf(is).fresh; h.tasks+1 > outputFresh || h.octets+is.size > outputFreshOctets {
		return // it is here still, and comes again
	}
	// The same request may wait under other numbers.
	for _, other := range slices.Clone(o.open) {
		if other.about.Digest == t.about.Digest {
			o.drop(other)
		}
	}
	if o.add(is); o.issued[is.request] == is { // by a clock that was set back it may be the oldest
		o.keep(is)
	}
}

// finish makes the documents. A task keeps its message, and of what was read of it
// only what verifying takes.
func (o *Output) finish(t *task, signatures [][]byte) ([][]byte, error) {
	v, err := t.authentic(&Config{State: o.cfg.State})
	if err != nil {
		return nil, err
	}
	var r document.Request
	if err := envelope.Decode(v, document.TypeRequest, document.VersionRequest, &r); err != nil {
		return nil, err
	}
	checked, err := document.CheckIn(o.cfg.State, &r, min(t.distribution.Created, o.now))
	if err != nil {
		return nil, err
	}
	return checked.AssembleAll(signatures)
}

func (o *Output) shelf(is *issued) *shelf {
	if o.kept[is.enterprise] == nil {
		o.kept[is.enterprise] = &shelf{}
	}
	return o.kept[is.enterprise]
}

// add keeps one more, in the order of time. The oldest of its enterprise give way.
func (o *Output) add(is *issued) {
	x := o.shelf(is)
	if is.record != nil {
		o.fresh = append(o.fresh, is)
		x.fresh.tasks++
		x.fresh.octets += is.size
	}
	o.issued[is.request] = is
	i, _ := slices.BinarySearchFunc(x.all, is.seen+1, func(y *issued, seen int64) int { return cmp.Compare(y.seen, seen) })
	x.all = slices.Insert(x.all, i, is)
	x.octets += is.size
	for len(x.all) > MaxIssued || x.octets > MaxIssuedOctets {
		o.forget(x.all[0])
	}
}

func (o *Output) forget(is *issued) {
	o.lighten(is)
	delete(o.issued, is.request)
	x := o.shelf(is)
	x.all = slices.DeleteFunc(x.all, func(y *issued) bool { return y == is })
	x.octets -= is.size
	o.out.Forget = append(o.out.Forget, is.request)
}

// lighten lets what is on the disk go from memory.
func (o *Output) lighten(is *issued) {
	if is.record == nil {
		return
	}
	x := o.shelf(is)
	x.fresh.tasks--
	x.fresh.octets -= is.size
	o.fresh = slices.DeleteFunc(o.fresh, func(y *issued) bool { return y == is })
	is.record = nil
}

func (o *Output) settle(is *issued) {
	if is.settled && is.durable == is.version {
		o.lighten(is)
	}
}

// keep hands out a record that has changed.
func (o *Output) keep(is *issued) {
	is.version++
	o.handOut(is)
}

func (o *Output) handOut(is *issued) {
	is.again = o.now + keepAgain
	x := *is.record
	x.Combiners, x.Wrong = slices.Clone(x.Combiners), slices.Clone(x.Wrong)
	o.out.Keep = append(o.out.Keep, Keep{x, is.version})
}

// Kept says that a version of a request's record is durable.
func (o *Output) Kept(now int64, request envelope.Hash, version uint64) OutputEffects {
	return o.step(now, func() {
		if is := o.issued[request]; is != nil {
			is.durable = max(is.durable, version)
			o.settle(is)
		}
	})
}

// patience is how long a request's distributor is waited for.
func (o *Output) patience(is *issued) int64 {
	a := o.authorities[is.enterprise]
	if a == nil {
		return patience
	}
	return patience + int64(a.key.N)*int64(is.documents)/provedInSecond
}

// due does what is due of a request that was signed.
func (o *Output) due(is *issued) {
	switch {
	case !is.settled && is.since+o.patience(is) <= o.now:
		o.alarm("", distributor{is.enterprise, is.distributor}, "silent", "distributor %d of enterprise %d is silent about request %s, task %d, which was signed %d minutes ago or longer: it is kept here",
			is.distributor, is.enterprise, is.request, is.task, o.patience(is)/60)
		is.record.Silent, is.settled = o.now, true
		o.keep(is)
	case is.durable < is.version && is.again <= o.now:
		o.handOut(is)
	}
}
