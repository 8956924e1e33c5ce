// Package web holds what every edge that speaks HTTP shares: handlers that
// return errors, the request's record and reference, the client's real
// address, strict forms, the headers of pages, guards against other origins,
// and the guard on outbound calls. It knows no protocol and no route; how a
// problem looks is each surface's own.
package web

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/countersign-dev/countersign/internal/problem"
)

// Handler answers a request or returns an error, before it has written
// anything. Problems are for the caller to see; other errors are shown as a
// bare 500 with the reference.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Renderer writes an error in the form of a surface.
type Renderer func(w http.ResponseWriter, r *http.Request, err error)

// With makes an http.Handler that renders what h returns. The error goes into
// the request's record, and so is logged once, with its private cause.
func (h Handler) With(render Renderer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		if code := problem.CodeOf(err); code != "" {
			RecordOf(r).Add(slog.String("problem", code))
		}
		RecordOf(r).Add(slog.String("error", err.Error()))
		render(w, r, err)
	})
}

// StatusOf is the ordinary HTTP status of an error; surfaces whose standard
// says otherwise do not use it.
func StatusOf(err error) int {
	p := problem.From(err)
	if p == nil {
		return http.StatusInternalServerError
	}
	switch p.Kind {
	case problem.Invalid:
		return http.StatusBadRequest
	case problem.Unauthenticated, problem.StepUp:
		return http.StatusUnauthorized
	case problem.Denied:
		return http.StatusForbidden
	case problem.NotFound:
		return http.StatusNotFound
	case problem.Conflict:
		return http.StatusConflict
	case problem.Throttled:
		return http.StatusTooManyRequests
	case problem.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// JSON writes v with a status. It is not to be stored by caches, unless the
// handler has set Cache-Control, nor sniffed; Content-Type likewise is
// application/json unless set. Nothing is written if v has no JSON.
func JSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	h := w.Header()
	preset(h, "Content-Type", "application/json")
	preset(h, "Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // a caller who is gone needs no answer
	return nil
}

// Text writes a string with a status. It is not to be stored by caches, nor sniffed.
func Text(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a caller who is gone needs no answer
}

func preset(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}
