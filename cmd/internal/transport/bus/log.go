package bus

import (
	"fmt"
	"log/slog"
	"strings"
)

// natsLog brings what the embedded server says into the site's own log. Its
// notices are its daily life and become debug lines.
type natsLog struct{ log *slog.Logger }

func (l *natsLog) Noticef(f string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(f, v...)) }
func (l *natsLog) Errorf(f string, v ...any)  { l.log.Warn("nats: " + fmt.Sprintf(f, v...)) }
func (l *natsLog) Fatalf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l *natsLog) Debugf(string, ...any)      {}
func (l *natsLog) Tracef(string, ...any)      {}

func (l *natsLog) Warnf(f string, v ...any) {
	s := fmt.Sprintf(f, v...)
	// True of certificates in general and false here: the pin of the key is
	// checked on every connection.
	if strings.Contains(s, "will not be verified") {
		return
	}
	l.log.Warn("nats: " + s)
}
