package coordtest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// FileRequest is a request of the program for a file, life seconds long.
// Without devices the route has all five.
func FileRequest(t testing.TB, sys *ledgertest.System, approvals string, now, life int64, devices ...string) []byte {
	t.Helper()
	k := sys.Keys[ledgertest.KeyFiles].Ledger
	if len(devices) == 0 {
		for _, h := range k.Holders {
			devices = append(devices, h.Device)
		}
	}
	content := []byte("a file to be signed\n")
	r := document.Request{
		Key: k.ID, Epoch: k.Epoch, Algorithm: "RS256", Kind: document.KindFile, Document: content, Name: "file.txt", Size: uint64(len(content)),
		Route:     document.Route{Mode: document.ModeSequential, Approvals: approvals, Devices: devices},
		Requester: ledgertest.Program, Created: now, Expires: now + life,
	}
	return SignRequest(t, sys, sys.Persons[ledgertest.Program].Software, r)
}

// SignRequest signs a request with a key of its requester.
func SignRequest(t testing.TB, sys *ledgertest.System, key *ecdsa.PrivateKey, r document.Request) []byte {
	t.Helper()
	if _, err := rand.Read(r.Nonce[:]); err != nil {
		t.Fatal(err)
	}
	body, err := envelope.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, key, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: sys.State.System(), Key: r.Key, Epoch: r.Epoch,
		LedgerHead: sys.State.Head(), Created: r.Created, Expires: r.Expires,
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Approve is an officer's answer to an item of his inbox. A reason makes it a
// rejection.
func Approve(t testing.TB, sys *ledgertest.System, p *ledgertest.Person, it api.InboxItem, now int64, reason string) []byte {
	t.Helper()
	u, err := envelope.Parse(it.Request)
	if err != nil {
		t.Fatal(err)
	}
	o, err := approval.VerifyOffer(sys.State, it.Offers[0], now)
	if err != nil {
		t.Fatal(err)
	}
	h := u.Header()
	a := approval.Approval{
		Request: u.UnverifiedDigest(), Key: h.Key, Epoch: h.Epoch, Device: it.Device, Share: it.Share, Decision: approval.Approve,
		Prior: it.Prior, Created: now, Expires: h.Expires,
	}
	if reason != "" {
		a.Decision, a.Reason = approval.Reject, reason
	} else {
		sealed, err := envelope.SealTo(o.Public(), nil, nil, []byte("a piece of the share's key, 32 octet"))
		if err != nil {
			t.Fatal(err)
		}
		a.Pieces = []approval.SealedPiece{{Offer: o.Digest(), Device: it.Device, Piece: it.Piece.ID, Sealed: sealed}}
	}
	raw, err := approval.NewApproval(rand.Reader, p.Card().Sign, sys.State, a, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// CertificateRequest is a request of the program for a certificate.
func CertificateRequest(t testing.TB, sys *ledgertest.System, approvals string, now, life int64, devices ...string) []byte {
	t.Helper()
	return CertificateRequestBy(t, sys, ledgertest.Program, sys.Persons[ledgertest.Program].Software, approvals, now, life, devices...)
}

// CertificateRequestBy is one in a requester's name, signed with any key.
func CertificateRequestBy(t testing.TB, sys *ledgertest.System, requester string, signer *ecdsa.PrivateKey, approvals string, now, life int64, devices ...string) []byte {
	t.Helper()
	return certificateRequest(t, sys, sys.Keys[ledgertest.KeyCertificates].Ledger, requester, signer, approvals, now, life, devices...)
}

func certificateRequest(t testing.TB, sys *ledgertest.System, k ledger.Key, requester string, signer *ecdsa.PrivateKey, approvals string, now, life int64, devices ...string) []byte {
	t.Helper()
	if len(devices) == 0 {
		for _, h := range k.Holders {
			devices = append(devices, h.Device)
		}
	}
	d := draft(t, k, "www.example.org", "RS256", now)
	return SignRequest(t, sys, signer, document.Request{
		Key: k.ID, Epoch: k.Epoch, Algorithm: "RS256", Kind: document.KindCertificate, Document: d.Document, CSR: d.CSR,
		Route:     document.Route{Mode: document.ModeParallel, Approvals: approvals, Devices: devices},
		Requester: requester, Created: now, Expires: now + life,
	})
}

// draft is a certificate to be, for a host.
func draft(t testing.TB, k ledger.Key, host string, alg threshold.Algorithm, now int64) document.Draft {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
	}, ledgertest.NewSigner(t, "subject"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Find("server")
	if err != nil {
		t.Fatal(err)
	}
	b, err := profile.Build(csr, p, k.Certificate, profile.Options{Days: 30, Algorithm: alg, Now: time.Unix(now, 0), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return document.Draft{Document: b.TBS, CSR: b.CSR}
}
