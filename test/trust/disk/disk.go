// Package disk records what a process does to the files of a folder, system
// call by system call, makes those calls fail on demand, and rebuilds what a
// power cut at any moment may leave of the folder. What must then hold belongs
// to the tests.
//
// A disk keeps what was synced. What was not may be there, missing, or there in
// part: sector by sector, in any order. Names in the folder are as durable as
// the last sync of the folder; of later changes a first part may be there. What
// a failed sync was asked for is lost, until it is written again.
package disk

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Op is what an event did.
type Op string

// The operations that change what a folder holds, or how durable it is.
const (
	Create   Op = "create"   // Name is a new, empty file
	Write    Op = "write"    // Data at Off of a file
	Truncate Op = "truncate" // a file is Size long
	Sync     Op = "sync"     // a file is durable
	SyncDir  Op = "syncdir"  // the names in the folder are
	Rename   Op = "rename"   // Name is now To
	Unlink   Op = "unlink"   // Name is gone
)

// Event is one system call that was done, or made to fail.
type Event struct {
	Op     Op     `json:"op"`
	File   uint64 `json:"file,omitempty"` // its inode
	Name   string `json:"name,omitempty"` // below the folder
	To     string `json:"to,omitempty"`
	Off    int64  `json:"off,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Failed bool   `json:"failed,omitempty"` // of Sync: it was made to fail
	Data   []byte `json:"-"`

	// End is how long the recording was with this event: Position gives the
	// same measure.
	End int64 `json:"-"`
}

// frame is how an event stands in a recording: lengths, the event, its data.
func (e *Event) frame() ([]byte, error) {
	head, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	return append(append(b, head...), e.Data...), nil
}

// read reads all events of a recording. One that is not whole at its end is
// none: its call was never answered.
func read(path string) (events []Event, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in, at := bufio.NewReader(f), int64(0)
	for {
		var lens [8]byte
		if _, err := io.ReadFull(in, lens[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return events, nil
		} else if err != nil {
			return nil, err
		}
		head, data := binary.BigEndian.Uint32(lens[:4]), binary.BigEndian.Uint32(lens[4:])
		b := make([]byte, head+data)
		if _, err := io.ReadFull(in, b); err != nil {
			return events, nil
		}
		at += int64(len(lens) + len(b))
		e := Event{Data: b[head:], End: at}
		if err := json.Unmarshal(b[:head], &e); err != nil {
			return nil, fmt.Errorf("a recording with %q: %w", b[:head], err)
		}
		events = append(events, e)
	}
}

// file is one file as the disk has it, and what was done to it since.
type file struct {
	durable []byte
	pending []Event // writes and truncations, in their order
}

// State is a folder at one moment of a recording. Inodes are used again, while
// the disk may still have a name of the file that had them: files have numbers
// of their own.
type State struct {
	files   []*file
	inodes  map[uint64]int // the files that have them now
	durable map[string]int // the names that are on the disk
	pending []change       // what was done to names since
	// Lying is a disk that says it has synced and has not.
	Lying bool
}

// change is an event about names; file is the one it created.
type change struct {
	Event
	file int
}

// add gives an inode to a new file.
func (s *State) add(inode uint64, durable []byte) (number int) {
	s.files = append(s.files, &file{durable: durable})
	s.inodes[inode] = len(s.files) - 1
	return len(s.files) - 1
}

// file is the one that has an inode; nil if the folder never had it.
func (s *State) file(inode uint64) *file {
	if n, ok := s.inodes[inode]; ok {
		return s.files[n]
	}
	return nil
}

// Clone is an independent copy.
func (s *State) Clone() *State {
	c := &State{inodes: maps.Clone(s.inodes), durable: maps.Clone(s.durable), pending: slices.Clone(s.pending), Lying: s.Lying}
	for _, f := range s.files {
		c.files = append(c.files, &file{slices.Clone(f.durable), slices.Clone(f.pending)})
	}
	return c
}

// Apply takes the state past an event.
func (s *State) Apply(e Event) {
	switch e.Op {
	case Create:
		s.pending = append(s.pending, change{e, s.add(e.File, nil)})
	case Rename, Unlink:
		s.pending = append(s.pending, change{Event: e})
	case SyncDir:
		if !s.Lying && !e.Failed {
			for _, p := range s.pending {
				name(s.durable, p)
			}
			s.pending = nil
		}
	case Write, Truncate:
		if f := s.file(e.File); f != nil {
			f.pending = append(f.pending, e)
		}
	case Sync:
		f := s.file(e.File)
		switch {
		case f == nil || s.Lying:
		case e.Failed: // the system forgets that it had to write them
			f.pending = nil
		default:
			for _, p := range f.pending {
				f.durable = written(f.durable, p)
			}
			f.pending = nil
		}
	}
}

// name does to names what an event did.
func name(names map[string]int, e change) {
	switch e.Op {
	case Create:
		names[e.Name] = e.file
	case Rename:
		names[e.To] = names[e.Name]
		delete(names, e.Name)
	case Unlink:
		delete(names, e.Name)
	}
}

// written is a file's bytes after an event.
func written(b []byte, e Event) []byte {
	if e.Op == Truncate {
		if e.Size <= int64(len(b)) {
			return b[:e.Size]
		}
		return append(b, make([]byte, e.Size-int64(len(b)))...)
	}
	if end := e.Off + int64(len(e.Data)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[e.Off:], e.Data)
	return b
}

// Loss is what becomes of what was not synced.
type Loss string

// The ways in which a power cut may take what was not synced.
const (
	Dropped   Loss = "dropped"   // none of it is there
	Kept      Loss = "kept"      // all of it is
	Reordered Loss = "reordered" // some of the writes are, whichever came first
	Torn      Loss = "torn"      // some of their sectors are
)

// sector is what a disk writes as a whole.
const sector = 512

// Image writes what a power cut at this moment leaves into an empty folder. rnd
// decides what Reordered and Torn keep.
func (s *State) Image(dir string, loss Loss, rnd *rand.Rand) error {
	names := maps.Clone(s.durable)
	kept := 0
	switch loss {
	case Kept:
		kept = len(s.pending)
	case Reordered, Torn:
		kept = rnd.IntN(len(s.pending) + 1)
	}
	for _, e := range s.pending[:kept] {
		name(names, e)
	}
	for _, n := range slices.Sorted(maps.Keys(names)) { // so that chance is the same each time
		id := names[n]
		b := s.files[id].left(loss, rnd)
		if strings.HasSuffix(n, "-shm") { // memory, not a file: anything may be there
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
		}
		if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// left is what a power cut leaves of a file.
func (f *file) left(loss Loss, rnd *rand.Rand) []byte {
	b := slices.Clone(f.durable)
	for _, e := range f.pending {
		switch {
		case loss == Kept, loss != Dropped && e.Op == Truncate && rnd.IntN(2) == 0, loss == Reordered && rnd.IntN(2) == 0:
			b = written(b, e)
		case loss == Torn && e.Op == Write:
			for _, part := range sectors(e) {
				if rnd.IntN(2) == 0 {
					b = written(b, part)
				}
			}
		}
	}
	return b
}

// sectors takes a write apart where the disk would.
func sectors(e Event) (parts []Event) {
	for off, data := e.Off, e.Data; len(data) > 0; {
		n := min(int64(len(data)), sector-off%sector)
		parts = append(parts, Event{Op: Write, Off: off, Data: data[:n]})
		off, data = off+n, data[n:]
	}
	return parts
}
