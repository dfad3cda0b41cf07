package hsm

import (
	"bytes"
	"runtime"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// TraceFunc is told of every byte string that crosses the PKCS#11 boundary:
// the C function's name, what went in (attribute values, mechanism parameters,
// data, PINs) and what came out. The slices are the ones in use: copy what is
// kept, change nothing. It may be called from several goroutines at once.
type TraceFunc func(call string, in, out [][]byte)

// cryptoki is the only way of this package to the token, so that a TraceFunc
// misses nothing; a test holds the rest of the package to that.
type cryptoki struct {
	ctx   *pkcs11.Ctx
	trace TraceFunc
}

type (
	sessionHandle = pkcs11.SessionHandle
	object        = pkcs11.ObjectHandle
	attribute     = pkcs11.Attribute
)

func (c *cryptoki) record(call string, in, out [][]byte) {
	if c.trace != nil {
		c.trace(call, in, out)
	}
}

// values are the byte strings of a template, those of nested templates too.
func values(attrs []*attribute, more ...[]byte) [][]byte {
	out := make([][]byte, 0, len(attrs)+len(more))
	for _, a := range attrs {
		if a.Value != nil {
			out = append(out, a.Value)
		}
	}
	return append(out, more...)
}

func mechanism(typ uint, param any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(typ, param)}
}

func (c *cryptoki) slotList() ([]uint, error) {
	ids, err := c.ctx.GetSlotList(true)
	return ids, fromCall("C_GetSlotList", err)
}

func (c *cryptoki) tokenInfo(slot uint) (pkcs11.TokenInfo, error) {
	info, err := c.ctx.GetTokenInfo(slot)
	return info, fromCall("C_GetTokenInfo", err)
}

func (c *cryptoki) mechanisms(slot uint) (map[uint]pkcs11.MechanismInfo, error) {
	list, err := c.ctx.GetMechanismList(slot)
	if err != nil {
		return nil, fromCall("C_GetMechanismList", err)
	}
	out := make(map[uint]pkcs11.MechanismInfo, len(list))
	for _, m := range list {
		// A mechanism listed without info still counts, with no key sizes.
		info, _ := c.ctx.GetMechanismInfo(slot, []*pkcs11.Mechanism{m})
		out[m.Mechanism] = info
	}
	return out, nil
}

func (c *cryptoki) initToken(slot uint, so PIN, label string) error {
	c.record("C_InitToken", [][]byte{so, []byte(label)}, nil)
	return fromCall("C_InitToken", c.ctx.InitToken(slot, so.view(), label))
}

func (c *cryptoki) initPIN(s sessionHandle, pin PIN) error {
	c.record("C_InitPIN", [][]byte{pin}, nil)
	return fromCall("C_InitPIN", c.ctx.InitPIN(s, pin.view()))
}

func (c *cryptoki) setPIN(s sessionHandle, old, new PIN) error {
	c.record("C_SetPIN", [][]byte{old, new}, nil)
	return fromCall("C_SetPIN", c.ctx.SetPIN(s, old.view(), new.view()))
}

func (c *cryptoki) openSession(slot uint) (sessionHandle, error) {
	s, err := c.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	return s, fromCall("C_OpenSession", err)
}

func (c *cryptoki) closeSession(s sessionHandle) error {
	return fromCall("C_CloseSession", c.ctx.CloseSession(s))
}

func (c *cryptoki) closeAllSessions(slot uint) error {
	return fromCall("C_CloseAllSessions", c.ctx.CloseAllSessions(slot))
}

func (c *cryptoki) login(s sessionHandle, user uint, pin PIN) error {
	c.record("C_Login", [][]byte{pin}, nil)
	return fromCall("C_Login", c.ctx.Login(s, user, pin.view()))
}

func (c *cryptoki) logout(s sessionHandle) error {
	return fromCall("C_Logout", c.ctx.Logout(s))
}

// find returns every object that matches the template. If stop, which may be
// nil, returns an error between two calls, that is the end.
func (c *cryptoki) find(s sessionHandle, template []*attribute, stop func() error) (found []object, err error) {
	c.record("C_FindObjectsInit", values(template), nil)
	if err := c.ctx.FindObjectsInit(s, template); err != nil {
		return nil, fromCall("C_FindObjectsInit", err)
	}
	for len(found) < maxObjects {
		if stop != nil {
			if err := stop(); err != nil {
				c.ctx.FindObjectsFinal(s)
				return nil, err
			}
		}
		c.record("C_FindObjects", nil, nil)
		batch, _, err := c.ctx.FindObjects(s, findBatch)
		if err != nil {
			c.ctx.FindObjectsFinal(s)
			return nil, fromCall("C_FindObjects", err)
		}
		if len(batch) == 0 {
			break
		}
		found = append(found, batch...)
	}
	return found, fromCall("C_FindObjectsFinal", c.ctx.FindObjectsFinal(s))
}

func (c *cryptoki) create(s sessionHandle, template []*attribute) (object, error) {
	c.record("C_CreateObject", values(template), nil)
	o, err := c.ctx.CreateObject(s, template)
	return o, fromCall("C_CreateObject", err)
}

func (c *cryptoki) destroy(s sessionHandle, o object) error {
	return fromCall("C_DestroyObject", c.ctx.DestroyObject(s, o))
}

// attributes reads attributes, one value for each type asked for.
func (c *cryptoki) attributes(s sessionHandle, o object, types ...uint) ([][]byte, error) {
	template := make([]*attribute, len(types))
	for i, t := range types {
		template[i] = pkcs11.NewAttribute(t, nil)
	}
	got, err := c.ctx.GetAttributeValue(s, o, template)
	if err != nil {
		return nil, fromCall("C_GetAttributeValue", err)
	}
	out := make([][]byte, len(got))
	for i := range got {
		out[i] = got[i].Value
	}
	c.record("C_GetAttributeValue", nil, out)
	return out, nil
}

func (c *cryptoki) generateKey(s sessionHandle, mech uint, template []*attribute) (object, error) {
	c.record("C_GenerateKey", values(template), nil)
	o, err := c.ctx.GenerateKey(s, mechanism(mech, nil), template)
	return o, fromCall("C_GenerateKey", err)
}

func (c *cryptoki) generateKeyPair(s sessionHandle, mech uint, public, private []*attribute) (pub, priv object, err error) {
	c.record("C_GenerateKeyPair", append(values(public), values(private)...), nil)
	pub, priv, err = c.ctx.GenerateKeyPair(s, mechanism(mech, nil), public, private)
	return pub, priv, fromCall("C_GenerateKeyPair", err)
}

func (c *cryptoki) sign(s sessionHandle, mech uint, key object, data []byte) ([]byte, error) {
	if err := c.ctx.SignInit(s, mechanism(mech, nil), key); err != nil {
		return nil, fromCall("C_SignInit", err)
	}
	sig, err := c.ctx.Sign(s, data)
	c.record("C_Sign", [][]byte{data}, [][]byte{sig})
	return sig, fromCall("C_Sign", err)
}

func (c *cryptoki) encryptGCM(s sessionHandle, key object, nonce, aad, plaintext []byte) ([]byte, error) {
	p := pkcs11.NewGCMParams(nonce, aad, gcmTagBits)
	defer p.Free()
	if err := c.ctx.EncryptInit(s, mechanism(pkcs11.CKM_AES_GCM, p), key); err != nil {
		return nil, fromCall("C_EncryptInit", err)
	}
	out, err := c.ctx.Encrypt(s, plaintext)
	if err == nil && !bytes.Equal(p.IV(), nonce) {
		// Some tokens (CloudHSM) put in a nonce of their own.
		return nil, &Error{Call: "C_Encrypt", Code: pkcs11.CKR_MECHANISM_PARAM_INVALID, kind: ErrUnsupported}
	}
	c.record("C_Encrypt", [][]byte{nonce, aad, plaintext}, [][]byte{out})
	return out, fromCall("C_Encrypt", err)
}

func (c *cryptoki) decryptGCM(s sessionHandle, key object, nonce, aad, ciphertext []byte) ([]byte, error) {
	p := pkcs11.NewGCMParams(nonce, aad, gcmTagBits)
	defer p.Free()
	if err := c.ctx.DecryptInit(s, mechanism(pkcs11.CKM_AES_GCM, p), key); err != nil {
		return nil, fromCall("C_DecryptInit", err)
	}
	out, err := c.ctx.Decrypt(s, ciphertext)
	c.record("C_Decrypt", [][]byte{nonce, aad, ciphertext}, [][]byte{out})
	return out, fromCall("C_Decrypt", err)
}

func (c *cryptoki) wrap(s sessionHandle, mech uint, kek, key object) ([]byte, error) {
	out, err := c.ctx.WrapKey(s, mechanism(mech, nil), kek, key)
	c.record("C_WrapKey", nil, [][]byte{out})
	return out, fromCall("C_WrapKey", err)
}

func (c *cryptoki) unwrap(s sessionHandle, mech uint, kek object, wrapped []byte, template []*attribute) (object, error) {
	c.record("C_UnwrapKey", values(template, wrapped), nil)
	o, err := c.ctx.UnwrapKey(s, mechanism(mech, nil), kek, wrapped, template)
	return o, fromCall("C_UnwrapKey", err)
}

// derive runs CKM_ECDH1_DERIVE or CKM_DH_PKCS_DERIVE with a public value.
func (c *cryptoki) derive(s sessionHandle, mech uint, base object, public []byte, template []*attribute) (object, error) {
	var param any = public
	if mech == pkcs11.CKM_ECDH1_DERIVE {
		param = pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, public)
	}
	c.record("C_DeriveKey", values(template, public), nil)
	o, err := c.ctx.DeriveKey(s, mechanism(mech, param), base, template)
	return o, fromCall("C_DeriveKey", err)
}

// nested is CK_ATTRIBUTE as the module sees it on platforms without packing.
type nested struct {
	typ   uint // CK_ULONG
	value unsafe.Pointer
	len   uint // CK_ULONG
}

// withTemplate calls f with template and one more attribute whose value is
// itself a template, such as CKA_UNWRAP_TEMPLATE. pkcs11.NewAttribute has no
// case for it, but an Attribute's value is copied byte for byte into C memory:
// so it is given an array of CK_ATTRIBUTE whose pointers lead to memory that is
// pinned until f returns.
func withTemplate(template []*attribute, typ uint, inner []*attribute, f func([]*attribute) error) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	array := make([]nested, len(inner))
	for i, a := range inner {
		array[i].typ = a.Type
		if len(a.Value) > 0 {
			pins.Pin(&a.Value[0])
			array[i].value = unsafe.Pointer(&a.Value[0])
			array[i].len = uint(len(a.Value))
		}
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(array))), uintptr(len(array))*unsafe.Sizeof(nested{}))
	err := f(append(template[:len(template):len(template)], &attribute{Type: typ, Value: raw}))
	runtime.KeepAlive(array)
	runtime.KeepAlive(inner)
	return err
}
