package medium

import (
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

const (
	// maxPlan bounds a plan: people are to read it.
	maxPlan = 256 << 10

	// maxFile bounds every file on a medium but the pages of the ledger: each is
	// one message, or less.
	maxFile = envelope.MaxMessage

	// maxFiles bounds these files of a list: a share or an invitation for each of
	// thirty machines, sixteen abandoned dealings, and what goes with them.
	maxFiles = 64

	// maxPage bounds a file with a page of the ledger: what api.FirstOf cuts, and
	// the five octets in front of each of its entries, none of which is shorter than
	// a signature.
	maxPage = api.PageOctets + 64<<10

	// maxPages bounds their number. Two pages that follow each other have more than
	// a page's octets, less what did not fit into the first: an entry with its
	// signature.
	maxPages = api.MaxLedger/(api.PageOctets-2*ledger.MaxEntry) + 1

	// maxList bounds a list: a sum and a path of 255 octets for each.
	maxList = (maxFiles + maxPages) * (64 + 2 + 255 + 1)
)
