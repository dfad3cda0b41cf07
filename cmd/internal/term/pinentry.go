package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
)

// Pinentry asks through a pinentry program, such as those of GnuPG, by the
// Assuan protocol on its standard input and output.
type Pinentry struct {
	Program  string
	TTY      string // terminal for programs that draw on one; "" if none
	TermType string // its type, as in $TERM
	Locale   string // character set of the terminal, as in $LC_CTYPE; texts are UTF-8
}

var _ Entry = (*Pinentry)(nil)

// NewPinentry returns an Entry that runs the program anew for each question.
func NewPinentry(program string) *Pinentry { return &Pinentry{Program: program} }

// PinentryError is a refusal by the pinentry program.
type PinentryError struct {
	Program string
	Code    uint64 // libgpg-error: source in the upper bits, code in the lower 16
	Text    string
}

func (e *PinentryError) Error() string {
	if errors.Is(e, ErrCancelled) {
		return ErrCancelled.Error() // in our words: the program's are for programmers
	}
	return fmt.Sprintf("%s: %s (%d)", e.Program, Clean(e.Text), e.Code)
}

// Error codes of libgpg-error that mean that the person declined.
const (
	gpgCanceled      = 99
	gpgFullyCanceled = 198
	gpgCodeMask      = 0xffff
)

// Is makes a cancelled dialog ErrCancelled.
func (e *PinentryError) Is(target error) bool {
	code := e.Code & gpgCodeMask
	return target == ErrCancelled && (code == gpgCanceled || code == gpgFullyCanceled)
}

// Secret runs the program and asks. A dialog that is closed is ErrCancelled;
// ctx ends the program.
func (p *Pinentry) Secret(ctx context.Context, a Ask) ([]byte, error) {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(run, p.Program)
	cmd.WaitDelay = byeTimeout
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		// Both name the program in a way of their own.
		if path, exe := (*fs.PathError)(nil), (*exec.Error)(nil); errors.As(err, &exe) {
			err = exe.Err
		} else if errors.As(err, &path) {
			err = path.Err
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrNoPinentry, Clean(p.Program), err)
	}
	c := &assuan{program: p.Program, w: in, r: out}
	defer c.wipe()
	secret, err := c.ask(p, a)
	if err == nil {
		_ = c.send("BYE") // its answer changes nothing
	}
	in.Close()
	if err != nil {
		cancel()
	}
	// The program's exit status says nothing that its answer did not.
	_ = cmd.Wait()
	if ctx.Err() != nil {
		clear(secret)
		return nil, context.Cause(ctx)
	}
	return secret, err
}

// assuan is a client's end of the Assuan protocol
// (https://www.gnupg.org/documentation/manuals/assuan/). Its buffer is wiped:
// secrets pass through it.
type assuan struct {
	program    string
	w          io.Writer
	r          io.Reader
	buf        [maxLine]byte
	start, end int // unread part of buf
	lines      int
}

func (c *assuan) wipe() { clear(c.buf[:]) }

// ask carries out the whole dialog after the program's greeting.
func (c *assuan) ask(p *Pinentry, a Ask) ([]byte, error) {
	if _, err := c.answer(); err != nil {
		return nil, fmt.Errorf("pinentry did not greet: %w", err)
	}
	// Options a program does not know are refused and do no harm.
	for _, o := range []struct{ name, value string }{{"ttyname", p.TTY}, {"ttytype", p.TermType}, {"lc-ctype", p.Locale}} {
		if o.value == "" {
			continue
		}
		if _, err := c.call("OPTION "+o.name, "="+o.value); err != nil && !errors.As(err, new(*PinentryError)) {
			return nil, err
		}
	}
	for _, set := range []struct{ command, text string }{
		{"SETTITLE", a.Title}, {"SETDESC", a.Text}, {"SETPROMPT", a.Prompt}, {"SETERROR", a.Error},
	} {
		if set.text == "" {
			continue
		}
		if _, err := c.call(set.command+" ", Clean(set.text)); err != nil {
			return nil, err
		}
	}
	if err := c.send("GETPIN"); err != nil {
		return nil, err
	}
	return c.answer()
}

// call sends a command and drops the data of its answer.
func (c *assuan) call(command, arg string) ([]byte, error) {
	if err := c.send(command + escape(arg)); err != nil {
		return nil, err
	}
	d, err := c.answer()
	clear(d)
	return nil, err
}

func (c *assuan) send(line string) error {
	if len(line) >= maxLine-1 {
		line = cut(line, maxLine-2)
	}
	_, err := io.WriteString(c.w, line+"\n")
	if err != nil {
		return fmt.Errorf("writing to pinentry: %w", err)
	}
	return nil
}

// cut shortens an escaped line without splitting an escape.
func cut(line string, n int) string {
	line = line[:n]
	if i := strings.LastIndexByte(line, '%'); i > n-3 {
		line = line[:i]
	}
	return line
}

// escape encodes an argument (Assuan manual, 2.1 and 2.2).
func escape(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// answer reads lines up to OK or ERR and returns the data of the D lines, which
// the caller wipes.
func (c *assuan) answer() ([]byte, error) {
	data := make([]byte, 0, maxSecret) // never grows
	fail := func(err error) ([]byte, error) {
		clear(data[:cap(data)])
		return nil, err
	}
	for {
		line, err := c.line()
		if err != nil {
			return fail(err)
		}
		word, rest, _ := bytes.Cut(line, []byte(" "))
		switch string(word) {
		case "OK":
			return data, nil
		case "ERR":
			code, text, _ := strings.Cut(string(rest), " ")
			n, err := strconv.ParseUint(code, 10, 32)
			if err != nil {
				return fail(errors.New("pinentry answered with a malformed error"))
			}
			return fail(&PinentryError{c.program, n, text})
		case "D":
			if data, err = unescape(data, rest); err != nil {
				return fail(err)
			}
		case "S", "":
		case "INQUIRE":
			// Nothing was offered that it could inquire about.
			if err := c.send("CAN"); err != nil {
				return fail(err)
			}
		default:
			if word[0] != '#' {
				// Not quoted: the line may hold a secret.
				return fail(errors.New("pinentry answered with an unknown line"))
			}
		}
	}
}

// unescape appends the decoded data of a D line within dst's capacity.
func unescape(dst, s []byte) ([]byte, error) {
	for i := 0; i < len(s); i++ {
		b := s[i]
		if b == '%' {
			if i+2 >= len(s) {
				return dst, errors.New("pinentry answered with a broken escape")
			}
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi < 0 || lo < 0 {
				return dst, errors.New("pinentry answered with a broken escape")
			}
			b, i = byte(hi<<4|lo), i+2
		}
		if len(dst) == cap(dst) {
			return dst, fmt.Errorf("more than %d bytes typed", cap(dst))
		}
		dst = append(dst, b)
	}
	return dst, nil
}

func hexDigit(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// line returns the next line without its end, valid until the next call.
func (c *assuan) line() ([]byte, error) {
	if c.lines++; c.lines > maxLines {
		return nil, errors.New("pinentry talks without answering")
	}
	// Move the rest to the front, so that one buffer holds all there ever is.
	n := copy(c.buf[:], c.buf[c.start:c.end])
	clear(c.buf[n:])
	c.start, c.end = 0, n
	for {
		if i := bytes.IndexByte(c.buf[:c.end], '\n'); i >= 0 {
			c.start = i + 1
			return bytes.TrimSuffix(c.buf[:i], []byte("\r")), nil
		}
		if c.end == len(c.buf) {
			return nil, errors.New("pinentry answered with a line that is too long")
		}
		n, err := c.r.Read(c.buf[c.end:])
		c.end += n
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("reading from pinentry: %w", err)
		}
	}
}
