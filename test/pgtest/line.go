package pgtest

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Line is a way to a database that can break in the middle of what is done, which the server
// itself cannot be made to.
type Line struct {
	to       string
	listener net.Listener

	mu     sync.Mutex
	left   int  // questions that are still let through; less than 0: any number
	broken bool // since After
	live   map[net.Conn]bool
}

// Through gives a line to a database of Start, and the connection string that goes by it.
func Through(t testing.TB, dsn string) (l *Line, by string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("pgtest: the connection string is no URL")
	}
	l = &Line{to: u.Host, left: -1, live: map[net.Conn]bool{}}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.After(0)
		l.spend()
		all.Wait()
	})
	u.Host = l.listener.Addr().String()
	return l, u.String()
}

// After lets n more questions through and breaks at the next one, for all connections and for
// new ones; Mend takes it back.
func (l *Line) After(n int) { l.set(n) }

// Mend makes the line whole again.
func (l *Line) Mend() { l.set(-1) }

func (l *Line) set(n int) {
	l.mu.Lock()
	l.left, l.broken = n, false
	l.mu.Unlock()
}

// Broken reports whether the line has broken since After.
func (l *Line) Broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// spend takes one question; it is false, and every connection ends, if none is left.
func (l *Line) spend() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 {
		for c := range l.live {
			_ = c.Close()
		}
		clear(l.live)
		l.broken = true
		return false
	}
	if l.left > 0 {
		l.left--
	}
	return true
}

// carry is one connection, until it ends or the line breaks.
func (l *Line) carry(c net.Conn) {
	defer c.Close()
	server, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer server.Close()
	l.mu.Lock()
	l.live[c], l.live[server] = true, true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.live, c)
		delete(l.live, server)
		l.mu.Unlock()
	}()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, server)
		_ = c.Close()
	}()
	l.questions(server, bufio.NewReader(c))
	_ = server.Close()
	<-back
}

// questions passes on what the program sends. A question ends with Sync, or is a simple Query
// (PostgreSQL documentation, "Message Formats").
func (l *Line) questions(to io.Writer, from *bufio.Reader) {
	head := 4 // the first message has no type
	for {
		b, err := from.Peek(head)
		if err != nil {
			return
		}
		kind := b[0]
		if ends := head == 5 && (kind == 'S' || kind == 'Q') || head == 4; ends && !l.spend() {
			return
		}
		if _, err := io.CopyN(to, from, int64(head-4)+int64(binary.BigEndian.Uint32(b[head-4:]))); err != nil {
			return
		}
		head = 5
	}
}
