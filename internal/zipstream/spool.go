package zipstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how many bytes of a directory stay in memory: those of some 5,000 files.
const spoolMemory = 1 << 20

// spool keeps what is written to it, in a temporary file from a certain size on.
type spool struct {
	memory bytes.Buffer
	file   *os.File
}

func (s *spool) write(b []byte) error {
	s.memory.Write(b)
	if s.memory.Len() < spoolMemory {
		return nil
	}
	if s.file == nil {
		var err error
		if s.file, err = TempFile(); err != nil {
			return err
		}
	}
	if _, err := s.memory.WriteTo(s.file); err != nil {
		return fmt.Errorf("write the archive's directory to a temporary file: %w", err)
	}
	return nil
}

// each hands over everything in order, in pieces.
func (s *spool) each(use func([]byte) error) error {
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read the archive's directory again: %w", err)
		}
		piece := make([]byte, 64<<10)
		for {
			n, err := s.file.Read(piece)
			if n > 0 {
				if err := use(piece[:n]); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the archive's directory again: %w", err)
			}
		}
	}
	return use(s.memory.Bytes())
}

func (s *spool) discard() {
	if s.file != nil {
		_ = s.file.Close() // it has no name any more: closing removes it
		s.file = nil
	}
}

// TempFile makes a file that is gone when it is closed, or when the process ends.
func TempFile() (*os.File, error) {
	file, err := os.CreateTemp("", "atlas-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink a temporary file: %w", err), file.Close())
	}
	return file, nil
}
