package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"time"
)

// item is a file of an archive. Nothing of the machine is in its header: neither
// owner nor the time it was written.
type item struct {
	name, path string
	mode       int64
}

// tarred writes a tar.gz with all items in a folder.
func tarred(path, folder string, items []item, at time.Time) error {
	return written(path, func(f io.Writer) error {
		z, err := gzip.NewWriterLevel(f, gzip.DefaultCompression)
		if err != nil {
			return err
		}
		w := tar.NewWriter(z)
		for _, i := range items {
			b, err := os.ReadFile(i.path)
			if err != nil {
				return err
			}
			h := &tar.Header{Typeflag: tar.TypeReg, Name: folder + "/" + i.name, Size: int64(len(b)), Mode: i.mode, ModTime: at, Format: tar.FormatUSTAR}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return errors.Join(w.Close(), z.Close())
	})
}

// zipped writes a zip with all items in a folder.
func zipped(path, folder string, items []item, at time.Time) error {
	return written(path, func(f io.Writer) error {
		w := zip.NewWriter(f)
		for _, i := range items {
			b, err := os.ReadFile(i.path)
			if err != nil {
				return err
			}
			h := &zip.FileHeader{Name: folder + "/" + i.name, Method: zip.Deflate, Modified: at}
			h.SetMode(os.FileMode(i.mode))
			into, err := w.CreateHeader(h)
			if err != nil {
				return err
			}
			if _, err := into.Write(b); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

func written(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}
