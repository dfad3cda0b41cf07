package server

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// audit is the server's own trail: one line of JSON for each message in and
// out. It proves nothing (devices keep logs that do); it is what an operator
// reads to trace a source.
type audit struct {
	file *os.File
	log  *slog.Logger
}

func openAudit(dir string) (*audit, error) {
	f, err := os.OpenFile(filepath.Join(dir, fileAudit), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &audit{f, slog.New(slog.NewJSONHandler(f, nil))}, nil
}

// message writes down a message that was understood.
func (a *audit) message(direction, peer string, h envelope.Header, digest envelope.Hash, more ...any) {
	args := []any{
		"peer", peer, "type", h.Type, "id", hex.EncodeToString(h.ID[:]), "signer", h.Signer.String(), "digest", digest.String(),
	}
	a.log.Info(direction, append(args, more...)...)
}

// frame writes down a sealed frame that passes through unread.
func (a *audit) frame(direction, peer, typ string, frame []byte) {
	h := sha256.Sum256(frame)
	a.log.Info(direction, "peer", peer, "type", typ, "frame", hex.EncodeToString(h[:]), "octets", len(frame))
}

// refused writes down what was not let through, and where it came from.
func (a *audit) refused(peer, what string, err error) {
	a.log.Warn("refused", "peer", peer, "what", what, "error", err.Error())
}

func (a *audit) close() { a.file.Close() }
