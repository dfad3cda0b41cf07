package term

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a program's command. It exits with 1 and says why if that failed;
// an interrupt or SIGTERM ends it, which is no failure.
func Main(c interface{ ExecuteContext(context.Context) error }) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := c.ExecuteContext(ctx)
	interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled)
	stop()
	if err != nil && !interrupted {
		PrintError(os.Stderr, err)
		os.Exit(1)
	}
}
