package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// A recorded frame is a 4-octet big-endian length, that many octets, of which
// the first is the direction.
const (
	toDevice   = 'd'
	fromDevice = 's'
)

func newTap() *cobra.Command {
	var t things
	var to string
	c := &cobra.Command{
		Use:   "tap",
		Short: "Sit on a device's line and write down every message, both ways",
		RunE: func(c *cobra.Command, _ []string) error {
			return tap(c.Context(), t.link, to, t.out)
		},
	}
	c.Flags().StringVar(&to, "to", "", "where the line goes on: unix:PATH")
	return t.flags(c, "link", "out")
}

// recorder writes frames down.
type recorder struct {
	mu sync.Mutex
	w  io.Writer
}

func (r *recorder) note(direction byte, frame []byte) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(frame)))
	b = append(append(b, direction), frame...)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.w.Write(b)
	return err
}

func tap(ctx context.Context, from, to, out string) error {
	f, err := os.OpenFile(out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	r := &recorder{w: f}
	l, err := link.Listen(from, link.ListenOptions{ID: "tap", Allow: func(string, pinned.Pin) error { return nil }})
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if err := r.join(ctx, c, to); err != nil {
				fmt.Fprintln(os.Stderr, "tap:", err)
			}
		}()
	}
}

// join goes on with a device's link to its server.
func (r *recorder) join(ctx context.Context, device *link.Conn, to string) error {
	server, err := link.Dial(ctx, to, link.Options{ID: device.Peer()})
	if err != nil {
		return err
	}
	defer server.Close()
	ends := make(chan error, 2)
	pump := func(direction byte, from, to *link.Conn) {
		for {
			frame, err := from.Recv(ctx)
			if err == nil {
				err = errors.Join(r.note(direction, frame), to.Send(ctx, frame))
			}
			if err != nil {
				ends <- err
				return
			}
		}
	}
	go pump(toDevice, server, device)
	go pump(fromDevice, device, server)
	return <-ends
}

// readRecording returns the frames that went to the device, and those that came
// from it. The last one may be torn.
func readRecording(path string) (to, from [][]byte, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	for len(data) >= 5 {
		n := int(binary.BigEndian.Uint32(data))
		if n < 1 || len(data)-4 < n {
			break
		}
		frame := data[5 : 4+n]
		if data[4] == toDevice {
			to = append(to, frame)
		} else {
			from = append(from, frame)
		}
		data = data[4+n:]
	}
	if len(to) == 0 {
		return nil, nil, fmt.Errorf("%s: nothing was heard", path)
	}
	return to, from, nil
}
