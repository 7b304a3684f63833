package zipstream_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/zipstream"
)

type file struct {
	name    string
	content []byte
}

func archive(t testing.TB, files []file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zipstream.NewWriter(&out)
	defer w.Discard()
	for _, f := range files {
		require.NoError(t, w.Add(f.name, time.Date(2026, 1, 22, 10, 0, 2, 0, time.UTC), f.content))
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func contents(content []byte, limit int64) (files []file, err error) {
	r, err := zipstream.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, err
	}
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		content, _, err := f.Content(limit)
		if err != nil {
			return files, err
		}
		files = append(files, file{f.Name, content})
	}
}

// TestAgainstArchiveZip checks the writer with the standard library's reader, the reader with its writer, and both with each other.
func TestAgainstArchiveZip(t *testing.T) {
	t.Parallel()
	random := make([]byte, 100_000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	files := []file{
		{"a.md", []byte("# A\n")}, {"empty.md", []byte{}}, {"größe-مرحبا-🙂.md", []byte(strings.Repeat("repeat ", 20_000))}, {"folder/random.md", random},
	}
	ours := archive(t, files)
	standard, err := zip.NewReader(bytes.NewReader(ours), int64(len(ours)))
	require.NoError(t, err)
	require.Len(t, standard.File, len(files))
	for i, f := range standard.File {
		require.Equal(t, files[i].name, f.Name)
		require.True(t, f.Modified.Equal(time.Date(2026, 1, 22, 10, 0, 2, 0, time.UTC)), f.Modified)
		require.True(t, f.Mode().IsRegular())
		content, err := f.Open()
		require.NoError(t, err)
		read, err := io.ReadAll(content)
		require.NoError(t, err)
		require.Equal(t, files[i].content, read)
	}
	read, err := contents(ours, 1<<20)
	require.NoError(t, err)
	require.Equal(t, files, read)

	var theirs bytes.Buffer
	w := zip.NewWriter(&theirs)
	for _, f := range files {
		out, err := w.Create(f.name)
		require.NoError(t, err)
		_, err = out.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.SetComment("PK\x05\x06 a comment that looks like an end"))
	require.NoError(t, w.Close())
	for _, before := range []string{"", "something before the archive"} {
		read, err = contents(append([]byte(before), theirs.Bytes()...), 1<<20)
		require.NoError(t, err)
		require.Equal(t, files, read)
	}
}

// TestManyFiles needs the 64-bit records and the temporary file.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	files := make([]file, 70_000)
	for i := range files {
		files[i] = file{fmt.Sprintf("%d.md", i), []byte{byte(i)}}
	}
	content := archive(t, files)
	standard, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	require.Len(t, standard.File, len(files))
	require.Equal(t, "69999.md", standard.File[69999].Name)
	read, err := contents(content, 1)
	require.NoError(t, err)
	require.Equal(t, files, read)
}

// TestCountThatIsTooSmall reads an archive as tools without the 64-bit records write it: its count begins again at 65,536.
func TestCountThatIsTooSmall(t *testing.T) {
	t.Parallel()
	files := []file{{"a.md", []byte("a")}, {"b.md", []byte("b")}, {"c.md", []byte("c")}}
	content := archive(t, files)
	end := content[len(content)-22:]
	for count := range byte(4) {
		end[8], end[10] = count, count
		read, err := contents(content, 1)
		require.NoError(t, err)
		require.Equal(t, files, read)
	}
	end[10] = 4
	_, err := contents(content, 1)
	require.ErrorIs(t, err, zipstream.ErrFormat)
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	files, err := contents(archive(t, nil), 1)
	require.NoError(t, err)
	require.Empty(t, files)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	content := archive(t, []file{{"a.md", []byte(strings.Repeat("a", 1000))}})
	_, err := contents(content, 999)
	require.ErrorIs(t, err, zipstream.ErrTooLarge)
	for name, broken := range map[string][]byte{
		"nothing": {}, "no zip": []byte("no zip"), "cut": content[:len(content)-1], "without its start": content[5:],
		"changed content": bytes.Replace(content, []byte{'K', 3, 4}, []byte{'K', 3, 5}, 1),
		"changed sum":     bytes.Replace(content, content[14:18], []byte{1, 2, 3, 4}, 2),
	} {
		_, err := contents(broken, 1000)
		require.ErrorIs(t, err, zipstream.ErrFormat, name)
	}
	// A size in the directory that the content exceeds: the content is not read beyond it.
	lie := bytes.Replace(content, []byte{0xe8, 3, 0, 0}, []byte{1, 0, 0, 0}, 2)
	_, err = contents(lie, 1000)
	require.ErrorIs(t, err, zipstream.ErrFormat)

	encrypted := bytes.Clone(content)
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	_, err = contents(encrypted, 1000)
	require.ErrorIs(t, err, zipstream.ErrUnsupported)
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAWriterThatFails(t *testing.T) {
	t.Parallel()
	w := zipstream.NewWriter(broken{})
	defer w.Discard()
	require.ErrorIs(t, w.Add("a", time.Now(), nil), io.ErrClosedPipe)
	require.ErrorIs(t, w.Close(), io.ErrClosedPipe)
}

// FuzzReader compares with the standard library where both can read an archive.
func FuzzReader(f *testing.F) {
	f.Add(archive(f, []file{{"a.md", []byte("# A\n")}, {"b/ü.md", []byte(strings.Repeat("b", 1000))}}))
	f.Add(archive(f, nil))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, content []byte) {
		files, err := contents(content, 1<<20)
		if err != nil {
			return
		}
		standard, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil || len(standard.File) != len(files) {
			return // it looks for the directory at two places, and reads on where the directory says it ends
		}
		for i, f := range standard.File {
			if strings.ToValidUTF8(f.Name, "\uFFFD") != files[i].name {
				return
			}
			reader, err := f.Open()
			if err != nil {
				continue
			}
			if read, err := io.ReadAll(io.LimitReader(reader, 2<<20)); err == nil {
				require.True(t, bytes.Equal(files[i].content, read))
			}
		}
	})
}
