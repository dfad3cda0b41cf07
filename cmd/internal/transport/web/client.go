package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// A StatusError is an answer other than success. Message is the server's text
// and proves nothing.
type StatusError struct {
	Code       int
	Message    string
	RetryAfter time.Duration // zero if the server named none
	Denied     bool          // this address made too many failed attempts
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("the message server answered %d: %q", e.Code, e.Message)
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", try again in %s", e.RetryAfter)
	}
	return s
}

// Temporary reports whether the same request may succeed soon: the server is
// saturated.
func (e *StatusError) Temporary() bool { return e.Code == http.StatusServiceUnavailable }

// A Client speaks to one message server. It may be used from any goroutine.
type Client struct {
	base string
	http *http.Client
}

// NewClient makes a client of the server at base ("https://host:port") that
// holds one of the pinned keys. It follows no redirect and uses no proxy:
// the ledger says where the server is.
func NewClient(base string, pins ...pinned.Pin) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("web: %q is not https://host:port", base)
	}
	if len(pins) == 0 {
		return nil, errors.New("web: a client needs the pin of its server's key")
	}
	return &Client{
		base: "https://" + u.Host,
		http: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig:        pinned.Client(nil, pins...),
				TLSHandshakeTimeout:    headerTimeout,
				ResponseHeaderTimeout:  MaxWait + handleTimeout,
				IdleConnTimeout:        idleTimeout / 2, // before the server's own, or a request meets a closing connection
				MaxIdleConnsPerHost:    4,
				MaxResponseHeaderBytes: maxHeader,
				DisableCompression:     true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Post sends one message and returns the answer. Errors: *StatusError,
// *pinned.WrongPinError, the context's own and the network's.
func (c *Client) Post(ctx context.Context, path string, body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("web: a message has at most %d octets, not %d", MaxBody, len(body))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	return c.do(r)
}

// Poll asks once. An empty batch is no error: poll again with the same cursor,
// and with the last message's after a full one.
func (c *Client) Poll(ctx context.Context, path string, p Poll) (Batch, error) {
	if p.Wait < 0 || p.Wait > MaxWait {
		return nil, fmt.Errorf("web: a poll waits at most %s", MaxWait)
	}
	if len(p.Proof) > maxProof {
		return nil, fmt.Errorf("web: a proof has at most %d octets", maxProof)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+p.query(), nil)
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if p.Proof != nil {
		r.Header.Set("Authorization", proofScheme+base64.RawURLEncoding.EncodeToString(p.Proof))
	}
	b, err := c.do(r)
	if err != nil {
		return nil, err
	}
	return decodeBatch(b, p.Since)
}

func (c *Client) do(r *http.Request) ([]byte, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	defer resp.Body.Close()
	limit := MaxBody
	if resp.StatusCode != http.StatusOK {
		limit = maxErrorText
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if resp.StatusCode != http.StatusOK {
		e := &StatusError{Code: resp.StatusCode, Message: strings.TrimSpace(cut(string(b), maxErrorText))}
		if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
			e.RetryAfter = time.Duration(s) * time.Second
		}
		e.Denied = resp.Header.Get("X-Privyseal-Denied") != ""
		return nil, e
	}
	if err != nil {
		return nil, fmt.Errorf("web: answer: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("web: the answer has more than %d octets", limit)
	}
	return b, nil
}
