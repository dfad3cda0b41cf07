package virtual

import "bytes"

// Identifiers of data objects, SP 800-73-4 Part 1 table 3 (5F C1 ..) and the
// YubiKey's (5F FF ..).
const (
	objectDiscovery    = 0x7E
	objectCCC          = 0x5FC107
	objectCHUID        = 0x5FC102
	objectFingerprints = 0x5FC103
	objectFace         = 0x5FC108
	objectPrinted      = 0x5FC109
	objectIris         = 0x5FC121
	objectAttestation  = 0x5FFF01
)

const (
	tagObjectList = 0x5C
	tagObject     = 0x53
)

// readable says whether an object needs the PIN, by table 2 of Part 1.
func (c *Card) readable(id uint32) bool {
	switch id {
	case objectFingerprints, objectFace, objectPrinted, objectIris:
		return c.pinOK
	}
	return true
}

// stored says whether an identifier names a place in the card.
func stored(id uint32) bool { return id>>8 == 0x5FC1 || id>>8 == 0x5FFF }

// objectID reads the tag list that begins the data of GET and PUT DATA.
func objectID(data []byte) (id uint32, rest []byte, ok bool) {
	tag, list, rest, err := readTLV(data)
	if err != nil || tag != tagObjectList || len(list) < 1 || len(list) > 3 {
		return 0, nil, false
	}
	for _, b := range list {
		id = id<<8 | uint32(b)
	}
	return id, rest, true
}

// getData is GET DATA, SP 800-73-4 Part 2 section 3.1.2.
func (c *Card) getData(cmd command) ([]byte, uint16) {
	if cmd.p1 != 0x3f || cmd.p2 != 0xff {
		return nil, swWrongParameters
	}
	id, rest, ok := objectID(cmd.data)
	if !ok || len(rest) != 0 {
		return nil, swWrongData
	}
	if id == objectDiscovery {
		// The PIV application, and a PIN policy of the application PIN alone
		// (Part 1, section 3.3.2).
		return tlv(objectDiscovery, tlv(0x4f, pivAID), tlv(0x5f2f, []byte{0x40, 0x00})), swOK
	}
	if !c.readable(id) {
		return nil, swSecurityNotSatisfied
	}
	o, ok := c.state.Objects[objectName(id)]
	if !ok {
		return nil, swNotFound
	}
	return tlv(tagObject, o), swOK
}

// putData is PUT DATA, section 3.3.1. An empty object deletes.
func (c *Card) putData(cmd command) uint16 {
	if !c.managerOK {
		return swSecurityNotSatisfied
	}
	if cmd.p1 != 0x3f || cmd.p2 != 0xff {
		return swWrongParameters
	}
	id, rest, ok := objectID(cmd.data)
	if !ok {
		return swWrongData
	}
	if !stored(id) {
		return swNotFound
	}
	tag, value, rest, err := readTLV(rest)
	if err != nil || tag != tagObject || len(rest) != 0 {
		return swWrongData
	}
	name := objectName(id)
	if len(value) == 0 {
		delete(c.state.Objects, name)
		return c.commit()
	}
	if _, exists := c.state.Objects[name]; len(value) > maxObject || (!exists && len(c.state.Objects) >= maxObjects) {
		return swNotEnoughMemory
	}
	c.state.Objects[name] = bytes.Clone(value)
	return c.commit()
}
