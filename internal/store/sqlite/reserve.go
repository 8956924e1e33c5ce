package sqlite

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/countersign-dev/countersign/internal/store"
)

// reserve is a file beside the database that takes room on its disk, to be given
// up when the disk is full (mechanisms E5). An empty file says that it was: a
// restart does not forget.
type reserve struct {
	path  string
	size  int64 // 0: none is wanted
	mu    sync.Mutex
	state atomic.Int32 // a store.Room
}

func (r *reserve) open(path string, size int64) {
	r.path, r.size = path+".reserve", size
	r.look()
}

// look reads the state off the file: another process may have given it up.
func (r *reserve) look() {
	st := store.NoReserve
	if fi, err := os.Stat(r.path); r.size > 0 && err == nil {
		switch fi.Size() {
		case r.size:
			st = store.ReserveKept
		case 0:
			st = store.ReserveUsed
		}
	}
	r.state.Store(int32(st))
}

// tend makes the reserve if there is none and room for twice its size.
func (r *reserve) tend() error {
	if r.size == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	if store.Room(r.state.Load()) == store.ReserveKept {
		return nil
	}
	_ = os.Remove(r.path + ".new") // what a kill left half-written
	free, err := freeBytes(r.path)
	if err != nil || free <= 2*uint64(r.size) {
		return err
	}
	if err := r.fill(); err != nil {
		return fmt.Errorf("sqlite: the reserve: %w", err)
	}
	r.look()
	return nil
}

// fill writes the file under another name: it counts once it is whole and on
// disk. Zeros are written, because a hole takes no room.
func (r *reserve) fill() (err error) {
	temp := r.path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for left := r.size; left > 0 && err == nil; left -= int64(len(zeros)) {
		_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, r.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// release gives the room up, if err says that the disk is full.
func (r *reserve) release(err error) {
	if r.size == 0 || !diskFull(err) || store.Room(r.state.Load()) != store.ReserveKept {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if os.Truncate(r.path, 0) == nil {
		r.state.Store(int32(store.ReserveUsed))
	}
}

// diskFull reports whether SQLite found no room for the database, its log or
// the index of that.
func diskFull(err error) bool {
	var e *sqlite3.Error
	return errors.As(err, &e) && (e.Code()&0xff == codes.SQLITE_FULL || e.Code() == codes.SQLITE_IOERR_SHMSIZE)
}

// Room implements store.Reserver.
func (e *engine) Room() store.Room { return store.Room(e.reserve.state.Load()) }

// TendReserve implements store.Reserver.
func (e *engine) TendReserve() error { return e.reserve.tend() }

// Free implements store.Freer.
func (e *engine) Free() (bytes uint64, ok bool, err error) {
	bytes, err = freeBytes(e.reserve.path)
	return bytes, freeKnown, err
}
