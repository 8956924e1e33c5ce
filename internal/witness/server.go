package witness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/quorum"
)

// Config is what a witness is made of.
type Config struct {
	Key     quorum.Key
	Private ed25519.PrivateKey
	Logs    []string // verifier keys of the logs that it serves; the name is the origin
	Dir     string   // where it keeps what it has cosigned; for it alone
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Server is a witness (C2SP tlog-witness): it cosigns a checkpoint if it extends the
// last one that it cosigned of that log, and keeps it before it answers. It is an
// http.Handler for the submission prefix. Below it, GET <SHA-256 of the origin, in
// hex>/checkpoint gives the last one it cosigned.
type Server struct {
	c    Config
	mux  *http.ServeMux
	logs map[string]*witnessed // by origin
}

// witnessed is a log that the witness serves.
type witnessed struct {
	origin, vkey, path string

	mu   sync.Mutex
	size uint64
	root [32]byte
	text []byte // as cosigned; nil: never
}

// NewServer makes a witness and reads what it has cosigned.
func NewServer(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{c: c, mux: http.NewServeMux(), logs: map[string]*witnessed{}}
	for _, vkey := range c.Logs {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("witness: the key of a log: %w", err)
		}
		l := &witnessed{origin: v.Name(), vkey: vkey, path: filepath.Join(c.Dir, fileName(v.Name()))}
		if err := l.read(); err != nil {
			return nil, err
		}
		s.logs[l.origin] = l
	}
	s.mux.HandleFunc("POST /add-checkpoint", s.add)
	s.mux.HandleFunc("GET /{log}/checkpoint", s.last)
	return s, nil
}

// fileName is a log's name in paths.
func fileName(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(h[:])
}

func (l *witnessed) read() error {
	text, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		l.root = audit.EmptyRoot
		return nil
	}
	if err != nil {
		return err
	}
	if _, l.size, l.root, err = audit.VerifyCheckpoint(text, l.vkey); err != nil {
		return fmt.Errorf("witness: %s is damaged: %w", l.path, err)
	}
	l.text = text
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// add answers a submission (tlog-witness, add-checkpoint).
func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "the body is too long", http.StatusBadRequest)
		return
	}
	req, err := ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	origin, _, _ := bytes.Cut(req.Checkpoint, []byte("\n"))
	l, ok := s.logs[string(origin)]
	if !ok {
		http.Error(w, "this log is not known here", http.StatusNotFound)
		return
	}
	if !signed(req.Checkpoint, l.vkey) {
		http.Error(w, "the log has not signed this", http.StatusForbidden)
		return
	}
	_, size, root, err := audit.VerifyCheckpoint(req.Checkpoint, l.vkey)
	if err != nil || req.Old > size {
		http.Error(w, "not a checkpoint in its one form, or smaller than the old size", http.StatusBadRequest)
		return
	}
	line, status, err := s.cosign(l, req, size, root)
	switch {
	case status == http.StatusConflict:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(status)
		fmt.Fprintf(w, "%d\n", l.known())
	case err != nil:
		if status == http.StatusInternalServerError {
			s.c.Log.Error("keep a checkpoint", "log", l.origin, "err", err)
			err = errors.New("the checkpoint could not be kept")
		}
		http.Error(w, err.Error(), status)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, line)
	}
}

// signed reports whether the log's key has signed a note, whatever it says.
func signed(text []byte, vkey string) bool {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return false
	}
	_, err = note.Open(text, note.VerifierList(v))
	return err == nil
}

func (l *witnessed) known() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// cosign compares a checkpoint with the last one, keeps it and signs it: one at a
// time for a log, so that nothing goes back.
func (s *Server) cosign(l *witnessed, req Request, size uint64, root [32]byte) (line string, status int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case req.Old != l.size:
		return "", http.StatusConflict, errors.New("another size is the last one")
	case size == l.size && l.text != nil && root != l.root:
		s.c.Log.Error("a log shows two trees of one size", "log", l.origin, "size", size)
		return "", http.StatusConflict, errors.New("another tree of this size was cosigned")
	}
	if err := audit.CheckConsistency(req.Proof, l.size, l.root, size, root); err != nil {
		s.c.Log.Error("a log does not extend what it was", "log", l.origin, "size", size, "old", l.size)
		return "", http.StatusUnprocessableEntity, errors.New("the checkpoint is not shown to extend the last one")
	}
	text, _, err := quorum.Body(req.Checkpoint)
	if err != nil {
		return "", http.StatusBadRequest, err
	}
	line = quorum.Cosign(s.c.Key, s.c.Private, text, s.c.Now())
	kept := append(bytes.Clone(req.Checkpoint), line...)
	if err := file.Replace(l.path, kept, 0o644); err != nil {
		return "", http.StatusInternalServerError, err
	}
	l.size, l.root, l.text = size, root, kept
	return line, http.StatusOK, nil
}

// last gives the last checkpoint of a log that was cosigned.
func (s *Server) last(w http.ResponseWriter, r *http.Request) {
	for _, l := range s.logs {
		if fileName(l.origin) != r.PathValue("log") {
			continue
		}
		l.mu.Lock()
		text := l.text
		l.mu.Unlock()
		if text == nil {
			break
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.Write(text)
		return
	}
	http.Error(w, "nothing was cosigned of such a log", http.StatusNotFound)
}
