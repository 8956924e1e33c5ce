package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// defaultReserve is what is kept for the log on the disk of an embedded database
// (mechanisms E5).
const defaultReserve = 64 << 20

// errDisk is why the server is not ready while it lives on the reserve.
var errDisk = errors.New("the disk is full: no tokens are issued until there is room for twice the reserve; what administrators do, and its records, use the reserve")

// tendReserve makes the reserve, and makes it again once there is room.
func (s *Server) tendReserve(ctx context.Context) {
	tend := func(context.Context) {
		if err := s.Store.TendReserve(); err != nil {
			s.log.Warn("keep a reserve on the disk", "err", err)
		}
	}
	tend(ctx)
	every(ctx, 5*time.Second, tend)
}

// sparing refuses to issue tokens while the disk is full: what room the reserve
// gave is for the log and for administrators.
func (s *Server) sparing(next http.Handler) http.Handler {
	full := problem.New(problem.Unavailable, "temporarily_unavailable", "The server cannot store anything right now. Nothing was changed.")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/oauth/token" || s.Store.Room() != store.ReserveUsed {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "5")
		s.renderAPI(w, r, full)
	})
}
