package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// kept is a backup of a world's source: 3 of 5.
type kept struct {
	*world
	dir      string
	manifest *Manifest
}

var people = []Holder{{Person: "officer-1b"}, {Person: "officer-2a"}, {Person: "officer-3a"}, {Person: "requester", Card: 92}, {Person: "officer-4b"}}

func newBackup(t testing.TB, kind string) *kept {
	t.Helper()
	w := newWorld(t, kind)
	s, _ := w.running()
	must(t, s.Close())
	k := &kept{world: w}
	k.again()
	k.now += 10
	return k
}

// again makes another backup of the same source.
func (k *kept) again() {
	k.t.Helper()
	k.dir = filepath.Join(k.t.TempDir(), "backup")
	if _, err := Backup(k.world.dir, k.dir, 3, people, k.now); err != nil {
		k.t.Fatal(err)
	}
	var err error
	k.manifest, err = ReadManifest(filepath.Join(k.dir, FileManifest))
	must(k.t, err)
}

func (k *kept) piece(i int) *Piece {
	k.t.Helper()
	p, err := ReadPiece(filepath.Join(k.dir, k.manifest.Pieces[i].File))
	must(k.t, err)
	return p
}

// hand is what holder i hands over, as a file.
func (k *kept) hand(i int, r *Request) string {
	k.t.Helper()
	p := k.piece(i)
	for _, c := range k.sys.Persons[p.Person].Cards {
		if c.Serial == p.Card {
			a, err := HandOver(c.Agree, p, r)
			must(k.t, err)
			return k.file(a)
		}
	}
	k.t.Fatalf("nobody has card %d", p.Card)
	return ""
}

func (k *kept) file(v any) string {
	k.t.Helper()
	data, err := json.Marshal(v)
	must(k.t, err)
	path := filepath.Join(k.t.TempDir(), "answer.json")
	must(k.t, os.WriteFile(path, data, 0o600))
	return path
}

func (k *kept) begin() (string, *Request) {
	k.t.Helper()
	dir := filepath.Join(k.t.TempDir(), "restored")
	_, err := BeginRestore(dir, k.manifest, "unix:/nowhere", nil, k.now)
	must(k.t, err)
	r, err := ReadRequest(filepath.Join(dir, fileRestoreAsked))
	must(k.t, err)
	return dir, r
}

// TestRestore gives back a source from every choice of pieces, and from none
// that is too small.
func TestRestore(t *testing.T) {
	for _, kind := range []string{ledger.SourceSequence, ledger.SourceSatellite} {
		k := newBackup(t, kind)
		original, err := loadKeys(k.world.dir, kind)
		must(t, err)
		for subset := range 1 << len(people) {
			dir, r := k.begin()
			var answers []string
			for i := range people {
				if subset>>i&1 == 1 {
					answers = append(answers, k.hand(i, r))
				}
			}
			src, epoch, err := Restore(dir, answers, k.now)
			if len(answers) < 3 {
				if err == nil || !strings.Contains(err.Error(), "of the 3 pieces") {
					t.Fatalf("%d pieces: %v", len(answers), err)
				}
				if _, err := LoadConfig(dir); err == nil {
					t.Fatalf("%d pieces made a source", len(answers))
				}
				continue
			}
			must(t, err)
			if epoch != uint64(k.now) || epoch <= 1+epochJump {
				t.Errorf("epoch %d", epoch)
			}
			got, err := loadKeys(dir, kind)
			must(t, err)
			if !got.identity.Equal(original.identity) || !got.agree.Equal(original.agree) || !bytes.Equal(got.sequence, original.sequence) {
				t.Fatal("other keys came back")
			}
			if !bytes.Equal(src.Sign, original.sign) {
				t.Fatal("another row")
			}
			for _, name := range []string{fileRestoreKey, fileRestore, fileRestoreAsked} {
				if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
					t.Errorf("%s is left: %v", name, err)
				}
			}
		}
	}
}

// TestRestoredIsSilent: a restored source does not know whom the lost one had
// silenced, so it believes officers only who speak after it came back; and the
// lost one is not heard any more.
func TestRestoredIsSilent(t *testing.T) {
	k := newBackup(t, ledger.SourceSatellite)
	lost, l := k.running()
	want(t, "the source", k.ask(lost, l, k.dev), answer)
	opened := k.dev.unlocked(k.now, false)
	k.now += 10
	want(t, "opened", k.ask(lost, l, opened), answer)
	k.now += 10
	revocation, _, _ := k.revoke("officer-1a")
	must(t, lost.handle(t.Context(), revocation))
	l.take()
	k.now += 10
	dir, r := k.begin()
	if _, _, err := Restore(dir, []string{k.hand(4, r), k.hand(0, r), k.hand(3, r)}, k.now); err != nil {
		t.Fatal(err)
	}
	k.world.dir = dir
	s, l2, err := k.start(realDisk(), nil)
	must(t, err)
	if s.system != k.sys.State.System() {
		t.Fatal("it does not know its system")
	}
	must(t, s.handle(t.Context(), k.system()))
	want(t, "the ceremony's instance", k.ask(s, l2, k.dev), refusedInstance)
	want(t, "opened before, and revoked since", k.ask(s, l2, opened), refusedRevoked)
	must(t, s.Close())
	s, l2, err = k.start(realDisk(), nil)
	must(t, err)
	want(t, "after a restart", k.ask(s, l2, opened), refusedRevoked)
	k.now += 10
	next := opened.unlocked(k.now, false)
	early := next.challenge()
	want(t, "opened since", k.ask(s, l2, next), answer)
	if e := next.keys[k.id].Epoch; e < epochJump {
		t.Errorf("the device heard epoch %d", e)
	}
	must(t, lost.handle(t.Context(), early))
	if _, err := next.tryOpen(l.take()[0]); err == nil || !strings.Contains(err.Error(), "has gone on to") {
		t.Errorf("the lost source is heard: %v", err)
	}
	if st, err := ReadStatus(dir); err != nil || st.Restored == 0 {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestRestoreTwice: two restorations of one backup have different beat keys,
// the later one of the later epoch.
func TestRestoreTwice(t *testing.T) {
	k := newBackup(t, ledger.SourceSatellite)
	var last uint64
	for range 2 {
		dir, r := k.begin()
		_, epoch, err := Restore(dir, []string{k.hand(0, r), k.hand(1, r), k.hand(2, r)}, k.now)
		must(t, err)
		if epoch <= last {
			t.Errorf("epoch %d after %d", epoch, last)
		}
		last = epoch
		k.now++
	}
	dir, r := k.begin()
	if _, epoch, err := Restore(dir, []string{k.hand(0, r), k.hand(1, r), k.hand(2, r)}, 0); err != nil || epoch != uint64(k.manifest.Created)+1 {
		t.Errorf("with a clock that stands at 1970: epoch %d, %v", epoch, err)
	}
}

// TestWrongPieces: each is named, by its holder.
func TestWrongPieces(t *testing.T) {
	k := newBackup(t, ledger.SourceSequence)
	other := newBackup(t, ledger.SourceSequence)
	dir, r := k.begin()
	_, r2 := k.begin()
	good := []string{k.hand(0, r), k.hand(1, r)}
	answerOf := func(i int, alter func(*Answer)) string {
		a := new(Answer)
		data, err := os.ReadFile(k.hand(i, r))
		must(t, err)
		must(t, decodeJSON(data, a))
		alter(a)
		return k.file(a)
	}
	// A holder whose card was sealed another value: the seal is right, the
	// piece is not.
	swapped := *k.piece(2)
	value, err := OpenPiece(k.sys.Persons["officer-3a"].Card().Agree, &swapped)
	must(t, err)
	value.Reveal()[0] ^= 1
	swapped.Sealed, err = envelope.SealTo(k.sys.Persons["officer-3a"].Card().Agree.PublicKey(), swapped.info(), nil, value.Reveal())
	must(t, err)
	wrong, err := HandOver(k.sys.Persons["officer-3a"].Card().Agree, &swapped, r)
	must(t, err)
	for what, c := range map[string]struct {
		file, says string
	}{
		"another value":        {k.file(wrong), "what officer-3a handed over is not piece 3"},
		"another request":      {k.hand(2, r2), "officer-3a was handed over to another request"},
		"twice":                {k.hand(1, r), "piece 2 of officer-2a was given twice"},
		"altered":              {answerOf(2, func(a *Answer) { a.Sealed[70] ^= 1 }), "officer-3a does not open"},
		"another's name":       {answerOf(2, func(a *Answer) { a.Person = "officer-4b" }), "no piece 3 of officer-4b"},
		"another index":        {answerOf(2, func(a *Answer) { a.Index = 5; a.Person = "officer-4b" }), "officer-4b does not open"},
		"no index":             {answerOf(2, func(a *Answer) { a.Index = 0 }), "no piece 0"},
		"another source":       {answerOf(2, func(a *Answer) { a.Source = "x" }), "a piece of source x"},
		"another backup":       {answerOf(2, func(a *Answer) { a.Backup = other.manifest.Check }), "of another backup"},
		"not a piece":          {filepath.Join(k.dir, FileManifest), "unknown field"},
		"the sealed piece":     {filepath.Join(k.dir, k.manifest.Pieces[2].File), "unknown field"},
		"a file that is empty": {k.file(nil), "version 0"},
	} {
		if _, _, err := Restore(dir, append(good[:2:2], c.file), k.now); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	if _, _, err := Restore(dir, append(good, k.hand(3, r)), k.now); err != nil {
		t.Fatalf("the right ones, after all: %v", err)
	}
	if _, _, err := Restore(dir, good, k.now); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}
}

// TestHandOverRefuses: what a holder would give to the wrong one.
func TestHandOverRefuses(t *testing.T) {
	k := newBackup(t, ledger.SourceSatellite)
	_, r := k.begin()
	card := k.sys.Persons["officer-1b"].Card().Agree
	if _, err := HandOver(k.sys.Persons["officer-2a"].Card().Agree, k.piece(0), r); err == nil || !strings.Contains(err.Error(), "this is another") {
		t.Errorf("another card: %v", err)
	}
	if _, err := HandOver(k.sys.Persons["requester"].Card().Agree, k.piece(3), r); err == nil {
		t.Error("the holder's other card was taken")
	}
	first := k.piece(0)
	_, err := Rotate(k.world.dir, 0, k.now)
	must(t, err)
	k.again()
	_, r2 := k.begin()
	if _, err := HandOver(card, first, r2); err == nil || !strings.Contains(err.Error(), "another backup") {
		t.Errorf("another backup: %v", err)
	}
	for what, alter := range map[string]func(*Piece){
		"threshold": func(p *Piece) { p.Threshold = 1 },
		"source":    func(p *Piece) { p.Source, r.Source = "x", "x" },
		"name":      func(p *Piece) { p.Name = "x" },
		"index":     func(p *Piece) { p.Index = 2 },
		"person":    func(p *Piece) { p.Person = "x" },
		"sealed":    func(p *Piece) { p.Sealed[99] ^= 1 },
	} {
		p, before := *first, r.Source
		p.Sealed = bytes.Clone(p.Sealed)
		alter(&p)
		if _, err := HandOver(card, &p, r); err == nil {
			t.Errorf("a piece whose %s was altered opens", what)
		}
		r.Source = before
	}
	a, b := *r, *r
	b.Public = r2.Public
	if a.Fingerprint() == b.Fingerprint() || len(a.Fingerprint()) != 24 {
		t.Errorf("fingerprints %q, %q", a.Fingerprint(), b.Fingerprint())
	}
}

func TestBackupRefuses(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	out := filepath.Join(t.TempDir(), "x")
	if _, err := Backup(w.dir, out, 2, people, 1); !errors.Is(err, ErrNoSystem) {
		t.Errorf("before the ceremony: %v", err)
	}
	s, _ := w.running()
	must(t, s.Close())
	for what, c := range map[string]struct {
		threshold int
		holders   []Holder
		says      string
	}{
		"one piece":       {1, people, "a threshold of 1 with 5 holders"},
		"too few":         {3, people[:2], "a threshold of 3 with 2 holders"},
		"nobody":          {2, []Holder{{"nobody", 0}, people[0]}, "no person"},
		"two cards":       {2, []Holder{{"requester", 0}, people[0]}, "name one as requester:SERIAL"},
		"no such card":    {2, []Holder{{"requester", 7}, people[0]}, "no card 7"},
		"without a card":  {2, []Holder{{"program", 0}, people[0]}, "no card"},
		"the same person": {2, []Holder{{"requester", 91}, {"requester", 92}}, "two pieces"},
	} {
		if _, err := Backup(w.dir, out, c.threshold, c.holders, 1); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%s: something was written", what)
		}
	}
	must(t, os.Mkdir(out, 0o700))
	if _, err := Backup(w.dir, out, 3, people, 1); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another: %v", err)
	}
}

// TestRestoreCrash lets each durable step of a restoration fail, done or not,
// and goes on with the same pieces.
func TestRestoreCrash(t *testing.T) {
	k := newBackup(t, ledger.SourceSequence)
	for _, persisted := range []bool{false, true} {
		for at := 1; ; at++ {
			dir, r := k.begin()
			answers := []string{k.hand(0, r), k.hand(1, r), k.hand(2, r)}
			steps := 0
			_, _, err := restore(faulty(at, persisted, &steps), dir, answers, k.now)
			if steps < at {
				must(t, err)
				break
			}
			if !errors.Is(err, errFault) {
				t.Fatalf("step %d: %v", at, err)
			}
			if _, err := LoadConfig(dir); err != nil {
				if _, _, err := Restore(dir, answers, k.now+5); err != nil {
					t.Fatalf("step %d: again: %v", at, err)
				}
			}
			s, err := Start(dir, Options{})
			must(t, err)
			if s.cfg.Restored == 0 || s.system.IsZero() {
				t.Errorf("step %d: %+v", at, s.cfg)
			}
			must(t, s.Close())
			if _, err := os.Stat(filepath.Join(dir, fileRestoreKey)); !os.IsNotExist(err) {
				t.Errorf("step %d: the one-time key is left: %v", at, err)
			}
		}
	}
	dir, _ := k.begin()
	if _, err := BeginRestore(dir, k.manifest, "unix:/nowhere", nil, 1); err == nil || !strings.Contains(err.Error(), "has begun") {
		t.Errorf("begun twice: %v", err)
	}
	// A source made here would destroy the one-time key at its first start.
	c := k.manifest.config("unix:/nowhere", nil, 0)
	if _, err := Init(dir, c, envelope.Hash{}, 1); !errors.Is(err, ErrRestoring) {
		t.Errorf("init where a restoration has begun: %v", err)
	}
	if _, err := LoadConfig(dir); !errors.Is(err, ErrRestoring) {
		t.Errorf("a source to be: %v", err)
	}
}

// TestManifestAltered: what the pieces give is held against the manifest.
func TestManifestAltered(t *testing.T) {
	k := newBackup(t, ledger.SourceSequence)
	good := *k.manifest
	for what, alter := range map[string]func(*Manifest){
		"check":    func(m *Manifest) { m.Check[0] ^= 1 },
		"identity": func(m *Manifest) { m.Sign = m.Agree },
		"agree":    func(m *Manifest) { m.Agree = m.Sign },
		"kind":     func(m *Manifest) { m.Kind = ledger.SourceMessage },
		"fewer":    func(m *Manifest) { m.Threshold = 2 },
	} {
		m := good
		alter(&m)
		k.manifest = &m
		dir, r := k.begin()
		r.Backup = good.Check
		k.manifest = &good
		var answers []string
		for i := range 3 {
			answers = append(answers, k.hand(i, r))
		}
		if what == "fewer" {
			answers = answers[:2]
		}
		if _, _, err := Restore(dir, answers, k.now); err == nil {
			t.Errorf("%s: restored", what)
		} else if _, err := LoadConfig(dir); err == nil {
			t.Errorf("%s: a source was made", what)
		}
	}
	for what, alter := range map[string]func(*Manifest){
		"version":   func(m *Manifest) { m.Version = 2 },
		"threshold": func(m *Manifest) { m.Threshold = 1 },
		"many":      func(m *Manifest) { m.Threshold = 6 },
		"system":    func(m *Manifest) { m.System = envelope.Hash{} },
		"order":     func(m *Manifest) { m.Pieces = append([]ManifestPiece{m.Pieces[1], m.Pieces[0]}, m.Pieces[2:]...) },
		"epoch":     func(m *Manifest) { m.Epoch = 0 },
	} {
		m := good
		alter(&m)
		if _, err := ReadManifest(k.file(&m)); err == nil {
			t.Errorf("%s: read", what)
		}
	}
	if _, err := ReadManifest(k.file(&good)); err != nil {
		t.Error(err)
	}
}

// FuzzFiles reads what people hand over as each of the files of a backup.
func FuzzFiles(f *testing.F) {
	k := newBackup(f, ledger.SourceSequence)
	dir, r := k.begin()
	for _, path := range []string{
		filepath.Join(k.dir, FileManifest), filepath.Join(k.dir, k.manifest.Pieces[0].File), filepath.Join(dir, fileRestoreAsked), k.hand(0, r),
	} {
		data, err := os.ReadFile(path)
		must(f, err)
		f.Add(data)
	}
	card := k.sys.Persons["officer-1b"].Card().Agree
	key, err := envelope.KeyIDOf(card.PublicKey())
	must(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, data, 0o600))
		if m, err := ReadManifest(path); err == nil && (m.Threshold < 2 || m.Threshold > uint64(len(m.Pieces)) || m.Check.IsZero()) {
			t.Errorf("manifest %+v", m)
		}
		if p, err := ReadPiece(path); err == nil {
			p.Key = key
			if v, err := OpenPiece(card, p); err == nil && v.Len() < 3*32 { // of another run's backup
				t.Errorf("piece %+v opens to %d bytes", p, v.Len())
			}
		}
		if q, err := ReadRequest(path); err == nil && len(q.Public) != 65 {
			t.Errorf("request %+v", q)
		}
		if _, _, err := Restore(dir, []string{path}, 1); err == nil {
			t.Error("restored from one piece")
		}
	})
}
