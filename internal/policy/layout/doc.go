package layout

import "strings"

// doc is text with the places where lines may break: what one group holds stands
// on one line if it fits, and else breaks at every place of the group.
type doc struct {
	is    kind
	token *token
	kids  []doc
}

type kind int

const (
	parts kind = iota // one after the other; without kids nothing
	text
	gap    // a space
	break1 // a space, or a line's end if the group breaks
	break0 // nothing, or a line's end
	breaks // a line's end always
	group
	nest // further in
)

var (
	space = doc{is: gap}
	line  = doc{is: break1}
	soft  = doc{is: break0}
	hard  = doc{is: breaks}
)

func all(kids ...doc) doc     { return doc{is: parts, kids: kids} }
func grouped(kids ...doc) doc { return doc{is: group, kids: kids} }
func nested(kids ...doc) doc  { return doc{is: nest, kids: kids} }

// item is a doc that is still to be written.
type item struct {
	doc    doc
	indent int
	flat   bool
}

// printer writes docs. Indents and spaces are written only once something
// follows them.
type printer struct {
	b      *strings.Builder
	column int // 0: nothing stands on this line yet
	indent int
	space  bool
	ends   bool // a comment ended the line
}

func render(b *strings.Builder, d doc) {
	p := printer{b: b}
	stack := []item{{doc: d}}
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		p.indent = top.indent
		if top.doc.is == group {
			top.flat = top.flat || !top.doc.broken() && p.fits(top, stack)
		}
		if top.doc.is == nest {
			top.indent += 2
		}
		for i := len(top.doc.kids) - 1; i >= 0; i-- {
			stack = append(stack, item{top.doc.kids[i], top.indent, top.flat})
		}
		switch is := top.doc.is; {
		case is == text:
			p.write(top.doc.token)
		case is == gap, is == break1 && top.flat:
			p.space = true
		case is == break1, is == break0 && !top.flat, is == breaks:
			p.newline()
		}
	}
}

func (p *printer) newline() {
	if p.column > 0 {
		p.b.WriteByte('\n')
	}
	p.column, p.space, p.ends = 0, false, false
}

// write is a token with its comments.
func (p *printer) write(t *token) {
	if p.ends {
		p.newline()
	}
	for _, c := range t.lead {
		p.newline()
		p.put(c.text)
		p.newline()
	}
	p.put(t.text)
	if t.trail != "" {
		p.b.WriteString(" " + t.trail)
		p.ends = true
	}
}

func (p *printer) put(s string) {
	switch {
	case p.column == 0:
		p.b.WriteString(strings.Repeat("  ", p.indent/2))
		p.column = p.indent
	case p.space:
		p.b.WriteByte(' ')
		p.column++
	}
	p.space = false
	p.b.WriteString(s)
	p.column += len([]rune(s))
	if p.column == 0 {
		p.column = 1 // something stands here, if only nothing
	}
}

// fits reports whether a group on one line, and what follows it up to the next
// place where a line may end, leaves the line within its width.
func (p *printer) fits(g item, after []item) bool {
	column := max(p.column, p.indent)
	g.flat = true
	stack := []item{g}
	for {
		if len(stack) == 0 {
			if len(after) == 0 {
				return true
			}
			stack, after = append(stack, after[len(after)-1]), after[:len(after)-1]
		}
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		switch is := top.doc.is; {
		case is == text:
			column += len([]rune(top.doc.token.text))
			if top.doc.token.trail != "" {
				return column <= width
			}
		case is == gap, is == break1 && top.flat:
			column++
		case is == break1, is == break0 && !top.flat, is == breaks:
			return column <= width
		}
		if column > width {
			return false
		}
		for i := len(top.doc.kids) - 1; i >= 0; i-- {
			stack = append(stack, item{top.doc.kids[i], 0, top.flat})
		}
	}
}

// broken reports whether a comment within ends a line.
func (d doc) broken() bool {
	first, last := true, false
	var walk func(doc) bool
	walk = func(d doc) bool {
		if d.is == text {
			if last || !first && len(d.token.lead) > 0 {
				return true
			}
			first, last = false, d.token.trail != ""
		}
		for _, k := range d.kids {
			if walk(k) {
				return true
			}
		}
		return false
	}
	return walk(d)
}
