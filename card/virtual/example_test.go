package virtual_test

import (
	"crypto/rand"
	"fmt"
	"log"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
)

// A card is a function from command to response.
func Example() {
	root, err := virtual.NewRoot(rand.Reader, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	state, err := root.Manufacture(rand.Reader, virtual.Profile57(), 20262026)
	if err != nil {
		log.Fatal(err)
	}
	card, err := virtual.New(state, virtual.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", card.Transmit([]byte{0x00, 0xA4, 0x04, 0x00, 0x05, 0xA0, 0x00, 0x00, 0x03, 0x08})) // SELECT
	fmt.Printf("%x\n", card.Transmit([]byte{0x00, 0xFD, 0x00, 0x00, 0x00}))                               // GET VERSION
	fmt.Printf("%x\n", card.Transmit(append([]byte{0x00, 0x20, 0x00, 0x80, 0x08}, "000000\xff\xff"...)))  // VERIFY
	// Output:
	// 61114f0600001000010079074f05a0000003089000
	// 0507019000
	// 63c2
}

// A slot makes a card fail when it matters: here it leaves the reader after it
// has signed but before it has said so.
func ExampleSlot_Inject() {
	slot := virtual.NewSlot(nil)
	err := slot.Inject(virtual.Fault{
		Action:      virtual.Unplug,
		Instruction: 0x87, // GENERAL AUTHENTICATE
		P2:          0x9C, // with the signature key
		Late:        true,
	})
	fmt.Println(err)
	// Output: <nil>
}
