package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// csrEndings are how files with certificate requests are called, and
// directoryEndings those that are looked for in a directory.
var (
	csrEndings       = []string{".csr", ".pem", ".der", ".req", ".p10"}
	directoryEndings = []string{".csr", ".pem"}
)

// readCSRs takes what --csr names into a wish: one file is one request, several
// or a directory are a batch.
func (q *asking) readCSRs(paths []string) error {
	files, batch, err := csrFiles(paths)
	if err != nil {
		return err
	}
	var all [][]byte
	for _, path := range files {
		data, err := readSmall(path, maxCSRFile)
		if err != nil {
			return err
		}
		der, err := profile.ReadCSR(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, der)
	}
	if !batch {
		q.Kind, q.CSR = document.KindCertificate, all[0]
		return nil
	}
	q.Kind, q.CSRs = document.KindCertificates, all
	for i, path := range files {
		name := resultName(path)
		if n := slices.Index(q.Names, name); n >= 0 {
			return usage(fmt.Sprintf("the certificates for %s and %s would both be called %s", files[n], path, name), "rename one of the files")
		}
		for n := range all[:i] {
			if bytes.Equal(all[n], all[i]) {
				return usage(fmt.Sprintf("%s and %s hold the same request", files[n], path), "leave one out")
			}
		}
		q.Names = append(q.Names, name)
	}
	return nil
}

// csrFiles are the files that --csr names, in its order, and those of a directory
// in the order of their names.
func csrFiles(paths []string) (files []string, batch bool, err error) {
	batch = len(paths) > 1
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, false, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		batch = true
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, false, err
		}
		found := false
		for _, e := range entries {
			if slices.Contains(directoryEndings, strings.ToLower(filepath.Ext(e.Name()))) && !strings.HasPrefix(e.Name(), ".") {
				files, found = append(files, filepath.Join(path, e.Name())), true
			}
		}
		if !found {
			return nil, false, term.WithHint(fmt.Errorf("%s holds no certificate requests", path), "of a directory, files *.csr and *.pem are taken")
		}
	}
	return files, batch, nil
}

// resultName is what the certificate for a request is called.
func resultName(path string) string {
	name := filepath.Base(path)
	if ext := filepath.Ext(name); ext != name && slices.Contains(csrEndings, strings.ToLower(ext)) {
		name = strings.TrimSuffix(name, ext)
	}
	return name + ".pem"
}

// checkBatch refuses, before anybody is asked for a PIN, a batch that the key
// does not sign.
func checkBatch(key *ledger.Key, certificates int) error {
	switch most := document.MaxBatch(key); {
	case most == 0:
		return term.WithHint(fmt.Errorf("key %s signs no batches: only keys of an authority in two layers do", key.ID),
			"make a request for each: give one --csr at a time")
	case certificates > most:
		return term.WithHint(fmt.Errorf("%d certificates are too many: key %s signs at most %d with one request", certificates, key.ID, most),
			"make several requests")
	}
	return nil
}

// signsBatches leaves the keys that can sign batches, if there are any.
func signsBatches(keys []ledger.Key) []ledger.Key {
	able := slices.DeleteFunc(slices.Clone(keys), func(k ledger.Key) bool { return document.MaxBatch(&k) == 0 })
	if len(able) == 0 {
		return keys
	}
	return able
}

// resultJSON is one certificate of a batch.
type resultJSON struct {
	Name   string `json:"name"`
	File   string `json:"file,omitempty"`
	Result []byte `json:"result"` // PEM
}

// deliverBatch verifies all certificates of a batch and writes them: all, or
// none.
func (a *app) deliverBatch(r *client.Signed, t *tracking, out string) error {
	ders, err := r.Results(t)
	if err != nil {
		return err
	}
	var results []resultJSON
	for i, der := range ders {
		x := resultJSON{Name: nameInBatch(r, i), Result: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
		if out != "" {
			x.File = filepath.Join(out, x.Name)
		}
		results = append(results, x)
	}
	if out != "" {
		if err := writeNewDir(out, results); err != nil {
			return err
		}
	}
	done := doneOf(r, t, "certificate", out)
	done.Results = results
	return a.result(done, func() {
		if out == "" {
			for _, x := range results {
				fmt.Fprintf(a.out, "%s", x.Result)
			}
		}
		a.signedBy(t)
		if out != "" {
			a.say("%s written to %s", certificatesOf(len(results)), out)
		}
	})
}

// nameInBatch is what a certificate of a batch is called: as its request's file,
// or by its number.
func nameInBatch(r *client.Signed, i int) string {
	if i < len(r.Names) {
		return r.Names[i]
	}
	return fmt.Sprintf("%03d.pem", i+1)
}

// writeNewDir makes a directory with these files, which is there when all of them
// are. A crash leaves at most a directory beside it whose name begins with a dot.
func writeNewDir(path string, files []resultJSON) (err error) {
	if err := checkNew(path); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(path)), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	// MkdirTemp made it 0700. Certificates are public.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for _, x := range files {
		if err := writeNew(filepath.Join(tmp, x.Name), x.Result, 0o644); err != nil {
			return err
		}
	}
	// What came to be there meanwhile is not overwritten, but for a directory with
	// nothing in it: rename(2).
	if err := os.Rename(tmp, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return existsError(path)
		}
		return err
	}
	dir, err := os.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
