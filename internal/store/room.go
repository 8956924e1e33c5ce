package store

// Room says what became of the reserve that an engine keeps on its disk, so
// that the log and administrators can go on when the disk is full.
type Room int32

// What there can be.
const (
	NoReserve   Room = iota // none is kept: not wanted, no room from the start, or not this engine's
	ReserveKept             // it takes up its room
	ReserveUsed             // the disk was full, and the reserve was given up
)

// Reserver is an engine that can keep a reserve.
type Reserver interface {
	Room() Room
	// TendReserve makes the reserve, anew or again, once there is room for twice
	// its size.
	TendReserve() error
}

// Room says what became of the reserve.
func (s *Store) Room() Room {
	if r, ok := s.db.(Reserver); ok {
		return r.Room()
	}
	return NoReserve
}

// TendReserve makes the reserve that is not there, if there is room for it. It is
// called by a loop.
func (s *Store) TendReserve() error {
	if r, ok := s.db.(Reserver); ok {
		return r.TendReserve()
	}
	return nil
}

// Freer is an engine on a disk of this machine.
type Freer interface {
	// Free is how many bytes are free on the disk of the database; ok is false
	// where that cannot be known.
	Free() (bytes uint64, ok bool, err error)
}

// Free is how many bytes are free on the disk of the database; ok is false if
// that is not a disk of this machine, or cannot be known.
func (s *Store) Free() (bytes uint64, ok bool, err error) {
	f, ok := s.db.(Freer)
	if !ok {
		return 0, false, nil
	}
	return f.Free()
}
