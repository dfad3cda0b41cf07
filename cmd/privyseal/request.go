package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// maxCSRFile bounds a CSR as people keep it, with text around it.
const maxCSRFile = 256 << 10

func newRequest(a *app) *cobra.Command {
	return command.Group("request", "Ask for a signature", newRequestCertificate(a), newRequestFile(a), newRequestEntry(a), newRequestStatus(a))
}

// asking is what all requests have in common.
type asking struct {
	client.Wish
	algorithm, as, keyFile, card string
	lifetime                     time.Duration
	wait                         waiting
	// command is what a request for an entry of the ledger is about.
	command *ledgerCommand
}

// waiting says what to do until there is a result.
type waiting struct {
	wait    bool
	timeout time.Duration
	out     string
	asked   bool // out was named, and is not the command's own idea
}

// outFlag is how to name out again.
func (w *waiting) outFlag() string {
	if w.out == "" || checkNew(w.out) != nil {
		return ""
	}
	return " --out " + shellQuote(w.out)
}

// What --out is for, which differs.
const (
	outOfAny   = "file for the result, or directory for those of a batch; nothing is overwritten"
	outOfFile  = "file for the signature (default: FILE.sig); nothing is overwritten"
	outOfEntry = "file for the signed command; nothing is overwritten"
)

func (q *asking) flags(c *cobra.Command, out string) {
	f := c.Flags()
	f.StringVar(&q.Key, "key", "", "id of the key that shall sign (default: the only one that can)")
	f.StringVar(&q.algorithm, "algorithm", "", "RS256, RS384, RS512, PS256, PS384 or PS512 (default: the key's first)")
	f.StringVar(&q.as, "as", "", "id of the person or program that asks; must own the key or card")
	f.StringVar(&q.keyFile, "requester-key", "", "file with the requester's software key")
	f.StringVar(&q.card, "card", "", "serial number of the requester's card (default: the only one there)")
	f.StringVar(&q.Approvals, "mode", document.ApprovalsSet, "how officers approve: set (independently) or chain (each over the one before)")
	f.StringSliceVar(&q.Devices, "devices", nil, "ids of the devices to ask, in the order preferred (default: all holders)")
	f.DurationVar(&q.lifetime, "expires", 24*time.Hour, "how long the request may wait for its officers, a minute at least")
	f.StringVar(&q.Comment, "comment", "", "a word to the officers")
	q.wait.flags(c, out)
}

func (w *waiting) flags(c *cobra.Command, out string) {
	f := c.Flags()
	f.BoolVar(&w.wait, "wait", false, "wait for the result")
	f.DurationVar(&w.timeout, "timeout", 0, "how long to wait, 5s at least (default: until the request expires)")
	f.StringVar(&w.out, "out", "", out)
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		w.asked = c.Flags().Changed("out")
		if before != nil {
			return before(c, args)
		}
		return nil
	}
}

func newRequestCertificate(a *app) *cobra.Command {
	var q asking
	var csrs []string
	var prof string
	c := &cobra.Command{
		Use:   "certificate --csr FILE... --profile PROFILE",
		Short: "Ask for a certificate for a CSR, or for many at once",
		Long: `Ask for a certificate for a PKCS#10 request, as openssl req makes it.

With --csr several times, or with a directory, ask for many certificates with
one request: a batch, which officers approve and devices sign as a whole or not
at all. Only authorities in two layers sign batches. --out is then a directory
that is made: the certificate for NAME.csr is NAME.pem there.

Profiles:
` + profiles(),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if q.Profile, err = profile.Find(prof); err != nil {
				return command.Misused(err)
			}
			if q.Days == 0 && c.Flags().Changed("days") {
				return usage("a certificate is valid for one day at least", "leave out --days for the profile's validity")
			}
			if err := q.readCSRs(csrs); err != nil {
				return err
			}
			return a.request(c.Context(), &q)
		},
	}
	c.Flags().StringArrayVar(&csrs, "csr", nil, "a request, PEM or DER, or a directory whose *.csr and *.pem are taken; may be repeated")
	c.Flags().StringVar(&prof, "profile", "", "what the certificate is for: "+strings.Join(profile.Names(), ", "))
	c.Flags().Uint64Var(&q.Days, "days", 0, "validity in days (default: the profile's)")
	q.flags(c, outOfAny)
	_ = c.MarkFlagRequired("csr")
	_ = c.MarkFlagRequired("profile")
	return c
}

func profiles() string {
	var b strings.Builder
	for _, p := range profile.All() {
		fmt.Fprintf(&b, "  %-14s %s (%d days)\n", p.Name, p.Help, p.Days)
	}
	return b.String()
}

func newRequestFile(a *app) *cobra.Command {
	var q asking
	var blind bool
	c := &cobra.Command{
		Use:   "file FILE",
		Short: "Ask for a signature on a file",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := args[0]
			q.Kind, q.Name = document.KindFile, filepath.Base(path)
			if blind {
				q.Kind = document.KindDigest
				if q.wait.out == "" {
					q.wait.out = path + ".sig"
				}
				return a.requestDigest(c.Context(), &q, path)
			}
			var err error
			if q.File, err = readSmall(path, document.MaxFile); errors.As(err, new(*tooLongError)) {
				return term.WithHint(err, "a longer file needs a key that signs digests, and --digest")
			} else if err != nil {
				return err
			}
			if q.wait.out == "" {
				q.wait.out = path + ".sig"
			}
			return a.request(c.Context(), &q)
		},
	}
	c.Flags().BoolVar(&blind, "digest", false, "send only the file's digest: officers sign blind; the key must allow it")
	q.flags(c, outOfFile)
	return c
}

// requestDigest hashes a file of any size.
func (a *app) requestDigest(ctx context.Context, q *asking, path string) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	key, alg, err := q.keyOf(s.State())
	if err != nil {
		return err
	}
	if !key.AllowDigest {
		return term.WithHint(fmt.Errorf("key %s signs no digests, of which nobody sees the document", key.ID), "leave out --digest")
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := alg.Hash().New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	q.Digest, q.Size = h.Sum(nil), uint64(n)
	return a.request(ctx, q)
}

// keyOf finds the key and algorithm that are meant.
func (q *asking) keyOf(s ledger.State) (ledger.Key, threshold.Algorithm, error) {
	family := ledger.FamilyFile
	switch q.Kind {
	case document.KindCertificate, document.KindCertificates:
		family = ledger.FamilyCertificate
	case document.KindEntry:
		family = ledger.FamilyLedger
	}
	var able []ledger.Key
	for _, k := range s.Keys() {
		if k.ID == q.Key || q.Key == "" && k.Family == family {
			able = append(able, k)
		}
	}
	if q.Key == "" && q.Kind == document.KindCertificates {
		able = signsBatches(able)
	}
	var ids []string
	for _, k := range able {
		ids = append(ids, k.ID)
	}
	switch {
	case len(able) == 0 && q.Key != "":
		return ledger.Key{}, "", usage(fmt.Sprintf("there is no key %q", q.Key), "privyseal system show lists the keys")
	case len(able) == 0:
		return ledger.Key{}, "", fmt.Errorf("no key of system %q signs documents of family %q", s.Name(), family)
	case len(able) > 1:
		return ledger.Key{}, "", usage("several keys can sign this: "+strings.Join(ids, ", "), "say which with --key")
	}
	k := able[0]
	q.Key, q.Algorithm = k.ID, threshold.Algorithm(q.algorithm)
	if q.Algorithm == "" {
		q.Algorithm = threshold.Algorithm(k.Algorithms[0])
	}
	return k, q.Algorithm, nil
}

// able is the key that is meant, if it can sign what is asked for.
func (q *asking) able(s ledger.State) (ledger.Key, error) {
	asked := q.Key
	key, _, err := q.keyOf(s)
	if err == nil && q.Kind == document.KindCertificates {
		err = checkBatch(&key, len(q.CSRs))
	}
	if err != nil {
		q.Key = asked
	}
	return key, err
}

// request makes a request, signs and sends it, and waits if asked to.
func (a *app) request(ctx context.Context, q *asking) error {
	if q.keyFile != "" && q.card != "" {
		return usage("--requester-key and --card exclude each other", "")
	}
	q.Lifetime = int64(q.lifetime / time.Second)
	if err := client.CheckLifetime(q.Lifetime); err != nil {
		return usage(fmt.Sprintf("--expires %v: %v", q.lifetime, err), "")
	}
	if q.wait.wait || q.wait.asked {
		if err := checkNew(q.wait.out); err != nil {
			return err
		}
	}
	s, err := a.system()
	if err != nil {
		return err
	}
	key, err := q.able(s.State())
	if err != nil {
		// An authority may be younger than what this home knows of the ledger.
		if conn, _, away := a.dial(ctx, s, a.server); away == nil {
			conn.Close()
			key, err = q.able(s.State())
		}
	}
	if err != nil {
		return err
	}
	if q.Kind == document.KindCertificates {
		a.tell("a batch of %s", certificatesOf(len(q.CSRs)))
	}
	// Requests to an authority in two layers go to one of its task distributors.
	conn, srv, err := a.dialFirst(ctx, s, func(id string) (ledger.Server, error) { return s.ServerFor(key.ID, id) })
	if err != nil {
		return err
	}
	defer conn.Close()
	var r *client.Signed
	if err := a.withRequester(ctx, s, q, func(signer crypto.Signer) (err error) {
		if q.command != nil {
			r, err = q.newEntry(a.rand, s.State(), signer, srv, a.now().Unix())
			return err
		}
		r, err = client.NewRequest(a.rand, s.State(), signer, q.Wish, srv, a.now().Unix())
		return err
	}); err != nil {
		return err
	}
	for _, note := range r.Notes {
		a.tell("note: %s", note)
	}
	// Kept first: what is on its way can then always be asked after.
	if err := s.Keep(r); err != nil {
		return err
	}
	if err := conn.Send(ctx, a.rand, s.State(), r); err != nil {
		return err
	}
	if !q.wait.wait {
		return a.result(submitted{r.Digest, r.Server, r.Request.Expires, len(r.Request.Batch)}, func() {
			a.say("%s", r.Digest)
			a.tell("the officers are asked; see: privyseal request status %s --wait%s", short(r.Digest), q.wait.outFlag())
		})
	}
	a.tell("request %s", r.Digest)
	return a.await(ctx, conn, s, r, q.wait)
}

type submitted struct {
	Request envelope.Hash `json:"request"`
	Server  string        `json:"server"`
	Expires int64         `json:"expires"`
	Count   int           `json:"count,omitempty"` // certificates of a batch
}

// withRequester calls f with the requester's signature key.
func (a *app) withRequester(ctx context.Context, s *client.System, q *asking, f func(crypto.Signer) error) error {
	if q.keyFile != "" {
		key, err := readRequesterKey(q.keyFile)
		if err != nil {
			return err
		}
		if _, err := client.Requester(s.State(), key.Public(), q.as); err != nil {
			return err
		}
		return f(key)
	}
	serial, err := a.chooseCard(ctx, s.State(), q.card)
	if err != nil {
		return err
	}
	p, c, ok := cardOf(s.State(), serial)
	switch {
	case !ok:
		return term.WithHint(fmt.Errorf("system %q does not know card %d", s.State().Name(), serial), "see: privyseal system show, privyseal card list")
	case q.as != "" && q.as != p.ID:
		return fmt.Errorf("card %d belongs to %s, not to %s", serial, p.ID, q.as)
	}
	return a.withCard(ctx, serial, registered(s.State(), c), "Ask for a signature as "+p.Name, func(k client.Keys) error {
		return f(k.Sign)
	})
}
