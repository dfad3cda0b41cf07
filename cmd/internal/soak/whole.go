package soak

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// whole checks that nothing is damaged: every device signs, with others to a
// signature that verifies; every process ends in order; every token, looked
// through by a new PKCS#11 session of this process, holds all that it held.
func (f *Fleet) whole() error {
	for i := range f.devices {
		var group []*Device
		for j := range int(f.T) {
			group = append(group, f.devices[(i+j)%len(f.devices)])
		}
		if err := f.sign(group); err != nil {
			return fmt.Errorf("after all cuts: %w", err)
		}
	}
	for _, d := range f.devices {
		s, err := d.status()
		if err != nil {
			return err
		}
		if s.Token != firmware.HealthOK || len(s.Shares) != 2 {
			return fmt.Errorf("after all cuts the token of %s is %s, with the shares %q", d.id, s.Token, s.Shares)
		}
	}
	if err := f.Stop(); err != nil {
		return err
	}
	for _, d := range f.devices {
		if err := d.look(); err != nil {
			return fmt.Errorf("token of device %s after all cuts: %w", d.id, err)
		}
	}
	return nil
}

// sign has a group of devices make a signature. A device whose lease ends
// meanwhile is opened again: the machine may be too busy for beats.
func (f *Fleet) sign(group []*Device) error {
	r, err := f.newRequest()
	if err != nil {
		return err
	}
	var order []uint64
	for _, d := range group {
		order = append(order, d.index)
	}
	slices.Sort(order)
	subset, err := threshold.SubsetOf(order...)
	if err != nil {
		return err
	}
	checked, err := document.CheckIn(f.state, &r.Request, time.Now().Unix())
	if err != nil {
		return err
	}
	var in []threshold.PartialSignature
	for _, d := range group {
		p, err := d.persist(r, order)
		if err != nil {
			return err
		}
		in = append(in, threshold.PartialSignature{Index: p.Index, Share: p.Share, Subset: subset, Value: p.Y})
	}
	_, err = threshold.CombineAdditiveVarTime(&f.key.Public, r.Algorithm, checked.Digest(), in)
	return err
}

func (d *Device) persist(r *request, order []uint64) (*firmware.Partial, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(restLoad) {
		a, err := d.approve(r)
		if err == nil {
			var p *firmware.Partial
			if p, err = d.do(a, order); err == nil {
				return p, nil
			}
		}
		if e := d.mayBe(err); e != nil || time.Now().After(deadline) {
			return nil, err
		}
		s, err := d.status()
		if err != nil {
			return nil, err
		}
		if s.Phase == firmware.PhaseLocked {
			if err := d.unlock(); err != nil {
				return nil, err
			}
		}
	}
}

// look opens the device's token, in this process, with the PIN that its
// officers hold, and looks through it.
func (d *Device) look() (err error) {
	if d.pin == nil {
		return nil // it was never cut
	}
	if err := hsm.UseSoftHSM(d.dir); err != nil {
		return err
	}
	t, err := hsm.Open(hsm.Config{TokenLabel: "privyseal-" + d.id})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	tok := devicetoken.New(t)
	if err := tok.Unlock(d.pin); err != nil { // looks at the key-encryption keys
		return err
	}
	names, err := t.ListObjects("")
	if err != nil {
		return err
	}
	want := []string{}
	for _, k := range d.f.state.Keys() {
		h, ok := d.f.state.HolderOf(k.ID, d.id)
		if !ok {
			return fmt.Errorf("it holds no share of key %s", k.ID)
		}
		want = append(want, ceremony.ShareObject(h.Share))
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		return fmt.Errorf("it holds the objects %q, not %q", names, want)
	}
	for _, name := range names {
		if _, data, err := tok.GetObject(name); err != nil || len(data) == 0 {
			return fmt.Errorf("object %s, %d octets: %w", name, len(data), err)
		}
	}
	return d.lookAtKeys(t)
}

// lookAtKeys uses the token's two private keys.
func (d *Device) lookAtKeys(t *hsm.Token) error {
	sign, agree, err := d.identity.public()
	if err != nil {
		return err
	}
	signer, err := t.Signer(devicetoken.LabelSign)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("whole"))
	sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(sign.(*ecdsa.PublicKey), digest[:], sig) {
		return errors.New("its signature key is another")
	}
	kx, err := t.KeyExchanger(devicetoken.LabelAgree)
	if err != nil {
		return err
	}
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	pub, err := agree.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return err
	}
	a, err := kx.ECDH(other.PublicKey())
	if err != nil {
		return err
	}
	b, err := other.ECDH(pub)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return errors.New("its agreement key is another")
	}
	return nil
}
