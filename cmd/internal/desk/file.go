package desk

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/privyseal/privyseal/cmd/internal/planfile"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// maxFile bounds a ceremony file: people are to read it before the ceremony.
const maxFile = 1 << 20

// file is the reviewed ceremony file. It holds no secrets, and it stands for
// itself: keys of servers and roots of manufacturers are in it, so that its
// hash covers them. Nothing has a default that opens a gate: a quorum that is
// left out is an error.
type file struct {
	System             string        `yaml:"system"`
	Lead               string        `yaml:"lead"`
	Hours              uint64        `yaml:"hours"`
	OfficerDays        uint64        `yaml:"officer_days"`
	Witnesses          []string      `yaml:"witnesses"`
	Administrator      string        `yaml:"administrator"`
	Vault              bool          `yaml:"vault"`
	SharedOfficers     bool          `yaml:"shared_officers"`
	AcknowledgeNoFault bool          `yaml:"acknowledge_no_fault"`
	Servers            []fileServer  `yaml:"servers"`
	Sources            []fileSource  `yaml:"sources"`
	Devices            []fileDevice  `yaml:"devices"`
	Manufacturers      []fileModel   `yaml:"manufacturers"`
	Persons            []filePerson  `yaml:"persons"`
	Officers           []fileOfficer `yaml:"officers"`
	Keys               []fileKey     `yaml:"keys"`
}

// fileServer is what 'privyseal-server init' prints.
type fileServer struct {
	ID    string        `yaml:"id"`
	Name  string        `yaml:"name"`
	Sign  []byte        `yaml:"sign"`
	Agree []byte        `yaml:"agree"`
	TLS   envelope.Hash `yaml:"tls"`
	URL   string        `yaml:"url"`
	Route string        `yaml:"route"`
}

type fileDevice struct {
	ID           string `yaml:"id"`
	Name         string `yaml:"name"`
	Server       string `yaml:"server"`
	Model        string `yaml:"model"`
	Serial       string `yaml:"serial"`
	Unattended   bool   `yaml:"unattended"`
	Use          string `yaml:"use"`
	UnlockQuorum uint64 `yaml:"unlock_quorum"`
	// Heartbeat is left out for a device that needs no beats.
	Heartbeat *fileHeartbeat `yaml:"heartbeat"`
}

type fileModel struct {
	Kind         string `yaml:"kind"`
	Manufacturer string `yaml:"manufacturer"`
	Model        string `yaml:"model"`
	Standard     string `yaml:"standard"`
	Root         string `yaml:"root"` // PEM
}

type filePerson struct {
	ID       string   `yaml:"id"`
	Name     string   `yaml:"name"`
	Title    string   `yaml:"title"`
	Cards    []uint32 `yaml:"cards"`
	Software string   `yaml:"software"` // public key, PEM
}

type fileOfficer struct {
	Person string `yaml:"person"`
	Card   uint32 `yaml:"card"`
	Device string `yaml:"device"`
	Class  string `yaml:"class"`
}

type fileKey struct {
	ID          string   `yaml:"id"`
	Name        string   `yaml:"name"`
	Family      string   `yaml:"family"`
	Mode        string   `yaml:"mode"` // parallel or sequential
	Need        uint64   `yaml:"need"` // devices that sign
	Devices     []string `yaml:"devices"`
	Bits        uint64   `yaml:"bits"`
	SafePrimes  bool     `yaml:"safe_primes"`
	Algorithms  []string `yaml:"algorithms"`
	AllowDigest bool     `yaml:"allow_digest"`
	MaxDays     uint64   `yaml:"max_days"`
	RootDays    uint64   `yaml:"root_days"`
	Quorum      uint64   `yaml:"quorum"` // officers at each device
	Pieces      uint64   `yaml:"pieces"` // that open a share
}

// ReadFile reads a ceremony file and returns the plan that devices get. The
// plan carries the hash of the file as it lies there, byte for byte.
func ReadFile(path string) (*ceremony.Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", path, len(data), maxFile)
	}
	p, err := ParseFile(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// ParseFile is ReadFile for a file in memory.
func ParseFile(data []byte) (*ceremony.Plan, error) {
	var f file
	// Rows of servers are as 'privyseal-server init' prints them: JSON, whose names
	// begin with capital letters.
	if _, err := planfile.Decode(data, &f, planfile.Options{AnyCase: true, Empty: true}); err != nil {
		return nil, err
	}
	p := &ceremony.Plan{
		Name: f.System, File: sha256.Sum256(data), Lead: f.Lead, Witnesses: f.Witnesses, Administrator: f.Administrator,
		Hours: f.Hours, Vault: f.Vault, SharedOfficers: f.SharedOfficers, AcknowledgeNoFault: f.AcknowledgeNoFault,
		OfficerDays: f.OfficerDays,
	}
	for _, s := range f.Servers {
		p.Servers = append(p.Servers, ledger.Server(s))
	}
	for _, s := range f.Sources {
		p.Sources = append(p.Sources, ledger.Source(s))
	}
	for _, d := range f.Devices {
		device, err := d.plan()
		if err != nil {
			return nil, err
		}
		p.Devices = append(p.Devices, device)
	}
	for _, m := range f.Manufacturers {
		root, err := onePEM(m.Root, "CERTIFICATE")
		if err != nil {
			return nil, fmt.Errorf("manufacturer %s: root: %w", m.Manufacturer, err)
		}
		p.Models = append(p.Models, ledger.Model{Kind: m.Kind, Manufacturer: m.Manufacturer, Model: m.Model, Root: root, Standard: m.Standard})
	}
	cards := map[string][]uint32{}
	for _, x := range f.Persons {
		person := ceremony.PlanPerson{ID: x.ID, Name: x.Name, Title: x.Title, Cards: x.Cards}
		if x.Software != "" {
			der, err := onePEM(x.Software, "PUBLIC KEY")
			if err != nil {
				return nil, fmt.Errorf("person %s: software key: %w", x.ID, err)
			}
			person.Software = der
		}
		p.Persons, cards[x.ID] = append(p.Persons, person), x.Cards
	}
	for _, o := range f.Officers {
		if o.Card == 0 && len(cards[o.Person]) == 1 {
			o.Card = cards[o.Person][0]
		}
		if o.Card == 0 {
			return nil, fmt.Errorf("officer %s: which of his cards?", o.Person)
		}
		p.Officers = append(p.Officers, ceremony.PlanOfficer(o))
	}
	for _, k := range f.Keys {
		key, err := k.plan()
		if err != nil {
			return nil, err
		}
		p.Keys = append(p.Keys, key)
	}
	return p, p.Validate()
}

func (k *fileKey) plan() (ceremony.PlanKey, error) {
	out := ceremony.PlanKey{
		ID: k.ID, Name: k.Name, Family: k.Family, T: k.Need, Devices: k.Devices, Bits: k.Bits, SafePrimes: k.SafePrimes,
		Algorithms: k.Algorithms, AllowDigest: k.AllowDigest, MaxDays: k.MaxDays, RootDays: k.RootDays,
		Quorum: k.Quorum, Threshold: k.Pieces,
	}
	switch k.Mode {
	case "parallel":
		out.Scheme = threshold.Additive
	case "sequential":
		out.Scheme = threshold.Multiplicative
	default:
		return out, fmt.Errorf("key %s: mode %q is neither parallel nor sequential", k.ID, k.Mode)
	}
	return out, nil
}

func onePEM(s, typ string) ([]byte, error) {
	b, rest := pem.Decode([]byte(s))
	switch {
	case b == nil:
		return nil, errors.New("not PEM")
	case b.Type != typ:
		return nil, fmt.Errorf("a %q where a %q is expected", b.Type, typ)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more than one PEM block")
	}
	return b.Bytes, nil
}
