package desk

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"

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
	System             string        `json:"system"`
	Lead               string        `json:"lead"`
	Hours              uint64        `json:"hours"`
	OfficerDays        uint64        `json:"officer_days"`
	Witnesses          []string      `json:"witnesses"`
	Administrator      string        `json:"administrator"`
	Vault              bool          `json:"vault"`
	SharedOfficers     bool          `json:"shared_officers"`
	AcknowledgeNoFault bool          `json:"acknowledge_no_fault"`
	Servers            []fileServer  `json:"servers"`
	Sources            []fileSource  `json:"sources"`
	Devices            []fileDevice  `json:"devices"`
	Manufacturers      []fileModel   `json:"manufacturers"`
	Persons            []filePerson  `json:"persons"`
	Officers           []fileOfficer `json:"officers"`
	Keys               []fileKey     `json:"keys"`
}

// fileServer is what 'privyseal-server init' prints.
type fileServer struct {
	ID    string        `json:"id"`
	Name  string        `json:"name"`
	Sign  []byte        `json:"sign"`
	Agree []byte        `json:"agree"`
	TLS   envelope.Hash `json:"tls"`
	URL   string        `json:"url"`
	Route string        `json:"route"`
}

type fileDevice struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	Server       string `json:"server"`
	Model        string `json:"model"`
	Serial       string `json:"serial"`
	Unattended   bool   `json:"unattended"`
	Use          string `json:"use"`
	UnlockQuorum uint64 `json:"unlock_quorum"`
	// Heartbeat is left out for a device that needs no beats.
	Heartbeat *fileHeartbeat `json:"heartbeat"`
}

type fileModel struct {
	Kind         string `json:"kind"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Standard     string `json:"standard"`
	Root         string `json:"root"` // PEM
}

type filePerson struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Cards    []uint32 `json:"cards"`
	Software string   `json:"software"` // public key, PEM
}

type fileOfficer struct {
	Person string `json:"person"`
	Card   uint32 `json:"card"`
	Device string `json:"device"`
	Class  string `json:"class"`
}

type fileKey struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Family      string   `json:"family"`
	Mode        string   `json:"mode"` // parallel or sequential
	Need        uint64   `json:"need"` // devices that sign
	Devices     []string `json:"devices"`
	Bits        uint64   `json:"bits"`
	SafePrimes  bool     `json:"safe_primes"`
	Algorithms  []string `json:"algorithms"`
	AllowDigest bool     `json:"allow_digest"`
	MaxDays     uint64   `json:"max_days"`
	RootDays    uint64   `json:"root_days"`
	Quorum      uint64   `json:"quorum"` // officers at each device
	Pieces      uint64   `json:"pieces"` // that open a share
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
	if err := decodeYAML(data, &f); err != nil {
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

// decodeYAML reads one YAML document strictly: duplicate and unknown fields are
// errors that name the field.
func decodeYAML(data []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		return err
	}
	if err := d.Decode(new(any)); err == nil {
		return errors.New("more than one document in the file")
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		return fmt.Errorf("a field that no ceremony file has: %w", err)
	}
	j := json.NewDecoder(bytes.NewReader(raw))
	j.DisallowUnknownFields()
	return j.Decode(into)
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
