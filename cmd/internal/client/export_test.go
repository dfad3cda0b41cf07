package client

import "time"

// SetPatience changes how long the pages of a connection may take.
func (c *Conn) SetPatience(silence, page time.Duration) { c.pageSilence, c.pageTimeout = silence, page }
