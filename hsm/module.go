package hsm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// modules are the PKCS#11 modules this process has loaded. C_Initialize counts
// for the process, so this cannot be anything but global.
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// module is a loaded PKCS#11 library. It stays loaded when its last token is
// closed (unloading a library that started threads is not safe) but it is
// finalised, so that the next Open reads the configuration anew.
type module struct {
	ctx     *pkcs11.Ctx
	path    string
	users   int
	foreign bool // somebody else in this process initialised it
	open    map[string]bool
}

// pause is the time given to a token that another process is initialising.
var pause = func() { time.Sleep(150 * time.Millisecond) }

// acquire loads and initialises the module, or counts one more user.
func acquire(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	m := modules.byPath[path]
	if m == nil {
		ctx := pkcs11.New(path)
		if ctx == nil {
			return nil, fmt.Errorf("hsm: cannot load PKCS#11 module %q; is the package installed and the path right?", path)
		}
		m = &module{ctx: ctx, path: path, open: map[string]bool{}}
		modules.byPath[path] = m
	}
	if m.users == 0 {
		if err := m.initialize(); err != nil {
			return nil, err
		}
	}
	m.users++
	return m, nil
}

func (m *module) initialize() error {
	err := m.ctx.Initialize()
	if err == pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		m.foreign = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w; for SoftHSM2, does SOFTHSM2_CONF name a readable configuration?", fromCall("C_Initialize", err))
	}
	m.foreign = false
	return nil
}

// release counts one user less; the last one finalises the module.
func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	m.users--
	if m.users > 0 || m.foreign {
		return nil
	}
	return fromCall("C_Finalize", m.ctx.Finalize())
}

// refresh makes the module read its list of tokens anew. SoftHSM2 sees tokens
// that another process made only so. It does nothing while somebody else uses
// the module, whose sessions it would end.
func (m *module) refresh() (bool, error) {
	modules.Lock()
	defer modules.Unlock()
	if m.users > 1 || m.foreign {
		return false, nil
	}
	if err := m.ctx.Finalize(); err != nil {
		return false, fromCall("C_Finalize", err)
	}
	return true, m.initialize()
}

// claim marks a token as open in this process.
func (m *module) claim(serial string) error {
	modules.Lock()
	defer modules.Unlock()
	if m.open[serial] {
		return ErrTokenInUse
	}
	m.open[serial] = true
	return nil
}

func (m *module) disclaim(serial string) {
	modules.Lock()
	defer modules.Unlock()
	delete(m.open, serial)
}

// slot is where a token is.
type slot struct {
	id   uint
	info pkcs11.TokenInfo
}

// slots lists the slots with a token, initialised or not.
func slots(c *cryptoki) ([]slot, error) {
	ids, err := c.slotList()
	if err != nil {
		return nil, err
	}
	var out []slot
	for _, id := range ids {
		info, err := c.tokenInfo(id)
		if err != nil {
			continue // an empty reader must not hide the others
		}
		out = append(out, slot{id, info})
	}
	return out, nil
}

// listing keeps tokens from being made and listed at the same time in this
// process: SoftHSM2 adds a free slot while it lists, and two that make a token
// would both take it.
var listing sync.Mutex

// lookup finds the initialised token a configuration names. listing is held.
func lookup(c *cryptoki, cfg Config) (slot, error) {
	all, err := slots(c)
	if err != nil {
		return slot{}, err
	}
	var found []slot
	for _, s := range all {
		if s.info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 && cfg.matches(s.info) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return slot{}, fmt.Errorf("%w: label %q, serial %q", ErrTokenNotFound, cfg.TokenLabel, cfg.TokenSerial)
	case 1:
		return found[0], nil
	}
	return slot{}, fmt.Errorf("%w: %q", ErrTokenAmbiguous, cfg.TokenLabel)
}

// find is lookup with a second look for a token that is just being made.
func (m *module) find(c *cryptoki, cfg Config) (slot, error) {
	listing.Lock()
	defer listing.Unlock()
	s, err := lookup(c, cfg)
	if !errors.Is(err, ErrTokenNotFound) {
		return s, err
	}
	pause()
	again, err2 := m.refresh()
	if err2 != nil {
		return slot{}, err2
	}
	if !again {
		return slot{}, err
	}
	return lookup(c, cfg)
}
