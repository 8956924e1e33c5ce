package backup

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// magic is the first line inside the encryption: the form and its version.
const magic = "countersign-backup/1\n"

// The limits of what is read.
const (
	maxFile    = 4 << 20
	maxValue   = 16 << 20
	maxName    = 256
	maxColumns = 256
)

// The kinds of frame.
const (
	frameManifest = 'm'
	frameFile     = 'f'
	frameTable    = 't'
	frameRow      = 'r'
	frameEnd      = 'e'
)

// The parts of a backup.
const (
	Database   = "database"
	RecordKeys = "record_keys" // what opens people's parts of the log; kept apart (mechanisms E14)
)

// Manifest says what a bundle holds.
type Manifest struct {
	Part       string    `json:"part"`
	Deployment string    `json:"deployment"`
	Issuer     string    `json:"issuer"`
	MadeAt     time.Time `json:"made_at"`
	Engine     string    `json:"engine"`
	Schema     int64     `json:"schema"` // version of the newest migration
	Epoch      int64     `json:"epoch"`
	HW         uint64    `json:"hw"`                   // size of the log (mechanisms I6)
	Checkpoint string    `json:"checkpoint,omitempty"` // the newest signed one
	LogKey     string    `json:"log_key"`              // that verifies it
	Rows       int64     `json:"rows"`                 // at most; for progress
}

// Writer writes a bundle; Close ends it. A writer that failed stays failed.
type Writer struct {
	enc  io.WriteCloser
	zip  *gzip.Writer
	buf  *bufio.Writer
	tmp  []byte
	rows uint64
	cols int
}

// NewWriter begins a bundle for recipients.
func NewWriter(w io.Writer, to []age.Recipient, m Manifest) (*Writer, error) {
	enc, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, fmt.Errorf("backup: encrypt: %w", err)
	}
	return write(enc, m)
}

// write begins what is inside the encryption.
func write(enc io.WriteCloser, m Manifest) (*Writer, error) {
	if _, err := io.WriteString(enc, magic); err != nil {
		return nil, err
	}
	z, err := gzip.NewWriterLevel(enc, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	b := &Writer{enc: enc, zip: z, buf: bufio.NewWriterSize(z, 64<<10)}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return b, b.frame(frameManifest, func() { b.bytes(text) })
}

// frame writes one frame.
func (b *Writer) frame(kind byte, fill func()) error {
	b.tmp = append(b.tmp[:0], kind)
	fill()
	_, err := b.buf.Write(b.tmp)
	return err
}

func (b *Writer) number(n uint64) { b.tmp = binary.AppendUvarint(b.tmp, n) }

func (b *Writer) bytes(v []byte) {
	b.number(uint64(len(v)))
	b.tmp = append(b.tmp, v...)
}

func (b *Writer) text(v string) {
	b.number(uint64(len(v)))
	b.tmp = append(b.tmp, v...)
}

// File adds a file, of at most 4 MiB.
func (b *Writer) File(name string, content []byte) error {
	if len(content) > maxFile {
		return fmt.Errorf("backup: %s is larger than %d bytes", name, maxFile)
	}
	return b.frame(frameFile, func() { b.text(name); b.bytes(content) })
}

// Table begins a table.
func (b *Writer) Table(name string, columns []string) error {
	b.cols = len(columns)
	return b.frame(frameTable, func() {
		b.text(name)
		b.number(uint64(len(columns)))
		for _, c := range columns {
			b.text(c)
		}
	})
}

// Row adds a row to the newest table: nil, int64, string and []byte, one for each
// column.
func (b *Writer) Row(values []any) error {
	if len(values) != b.cols {
		return errors.New("backup: a row has other columns than its table")
	}
	b.rows++
	var bad error
	err := b.frame(frameRow, func() {
		for _, v := range values {
			switch v := v.(type) {
			case nil:
				b.tmp = append(b.tmp, 0)
			case int64:
				b.tmp = binary.AppendVarint(append(b.tmp, 1), v)
			case string:
				b.tmp = append(b.tmp, 2)
				b.text(v)
			case []byte:
				b.tmp = append(b.tmp, 3)
				b.bytes(v)
			default:
				bad = fmt.Errorf("backup: a row holds a %T", v)
			}
		}
	})
	return errors.Join(bad, err)
}

// Close ends the bundle. Without it the bundle is none.
func (b *Writer) Close() error {
	if err := b.frame(frameEnd, func() { b.number(b.rows) }); err != nil {
		return err
	}
	return errors.Join(b.buf.Flush(), b.zip.Close(), b.enc.Close())
}

// Reader reads a bundle.
type Reader struct {
	Manifest Manifest
	// Files are the files of the bundle by name; all of them come before any row.
	Files map[string][]byte

	in      *bufio.Reader
	table   string
	columns []string
	row     []any
	rows    uint64
	next    byte // kind of the frame that was begun
	done    bool
}

// Open begins to read a bundle: its manifest and its files. What is not a bundle,
// or not for these identities, is an error.
func Open(r io.Reader, ids []age.Identity) (*Reader, error) {
	dec, err := age.Decrypt(r, ids...)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return read(dec)
}

func read(r io.Reader) (*Reader, error) {
	got := make([]byte, len(magic))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != magic {
		return nil, errors.Join(errors.New("backup: this is no backup of a form that is known here"), err)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	b := reader(z)
	if err := b.begin(); err != nil {
		return nil, fmt.Errorf("backup: %w", short(err))
	}
	return b, nil
}

// reader reads frames.
func reader(r io.Reader) *Reader {
	return &Reader{Files: map[string][]byte{}, in: bufio.NewReaderSize(r, 64<<10)}
}

// begin reads what comes before the first table.
func (b *Reader) begin() (err error) {
	if b.next, err = b.in.ReadByte(); err != nil {
		return err
	}
	if b.next != frameManifest {
		return errors.New("it does not begin with a manifest")
	}
	text, err := b.bytes(maxFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &b.Manifest); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	for {
		if b.next, err = b.in.ReadByte(); err != nil || b.next != frameFile {
			return err
		}
		name, err := b.text(maxName)
		if err != nil {
			return err
		}
		if len(b.Files) >= 16 {
			return errors.New("it has too many files")
		}
		if b.Files[name], err = b.bytes(maxFile); err != nil {
			return err
		}
	}
}

// short says what an early end means.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it was cut off")
	}
	return err
}

// Next gives the next row with its table; io.EOF after the last, once everything
// was read and proved whole. Neither columns nor row are good after the next call.
func (b *Reader) Next() (table string, columns []string, row []any, err error) {
	if b.done {
		return "", nil, nil, io.EOF
	}
	for err == nil {
		switch b.next {
		case frameTable:
			err = b.readTable()
		case frameRow:
			if err = b.readRow(); err == nil {
				b.next, err = b.in.ReadByte()
				if err == nil {
					return b.table, b.columns, b.row, nil
				}
			}
		case frameEnd:
			if err = b.end(); err == nil {
				return "", nil, nil, io.EOF
			}
		default:
			err = fmt.Errorf("there is no frame %q", b.next)
		}
		if err == nil {
			b.next, err = b.in.ReadByte()
		}
	}
	return "", nil, nil, fmt.Errorf("backup: %w", short(err))
}

func (b *Reader) readTable() (err error) {
	if b.table, err = b.text(maxName); err != nil {
		return err
	}
	n, err := b.number(maxColumns)
	if err == nil && n == 0 {
		err = errors.New("a table has no columns")
	}
	if err != nil {
		return err
	}
	b.columns, b.row = make([]string, n), make([]any, n)
	for i := range b.columns {
		if b.columns[i], err = b.text(maxName); err != nil {
			return err
		}
	}
	return nil
}

func (b *Reader) readRow() error {
	if b.columns == nil {
		return errors.New("a row belongs to no table")
	}
	b.rows++
	for i := range b.row {
		kind, err := b.in.ReadByte()
		if err != nil {
			return err
		}
		switch kind {
		case 0:
			b.row[i] = nil
		case 1:
			b.row[i], err = binary.ReadVarint(b.in)
		case 2:
			b.row[i], err = b.text(maxValue)
		case 3:
			b.row[i], err = b.bytes(maxValue)
		default:
			err = fmt.Errorf("there is no kind of value %d", kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end reads to the end of the encryption: only then is the last byte authentic.
func (b *Reader) end() error {
	n, err := binary.ReadUvarint(b.in)
	if err != nil {
		return err
	}
	if n != b.rows {
		return fmt.Errorf("it has %d rows and says %d", b.rows, n)
	}
	if rest, err := io.Copy(io.Discard, b.in); err != nil || rest > 0 {
		return errors.Join(fmt.Errorf("%d bytes follow its end", rest), err)
	}
	b.done = true
	return nil
}

func (b *Reader) number(most uint64) (int, error) {
	n, err := binary.ReadUvarint(b.in)
	if err == nil && n > most {
		err = fmt.Errorf("a length of %d is more than %d", n, most)
	}
	return int(n), err
}

// bytes reads a length and as many bytes; memory grows with what is there, not with
// what the length claims.
func (b *Reader) bytes(most uint64) ([]byte, error) {
	n, err := b.number(most)
	if err != nil {
		return nil, err
	}
	if n <= 64<<10 {
		v := make([]byte, n)
		_, err := io.ReadFull(b.in, v)
		return v, err
	}
	v, err := io.ReadAll(io.LimitReader(b.in, int64(n)))
	if err == nil && len(v) < n {
		err = io.ErrUnexpectedEOF
	}
	return v, err
}

func (b *Reader) text(most uint64) (string, error) {
	v, err := b.bytes(most)
	return string(v), err
}
