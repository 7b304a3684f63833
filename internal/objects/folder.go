package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
)

const (
	// unfinishedPrefix is what the names of files begin with that are being written. No object's name does.
	unfinishedPrefix = ".unfinished-"
	// lockName is the file of the folder's lock.
	lockName = ".lock"
	lockPoll = 10 * time.Millisecond
	lockWait = 30 * time.Second
	// folderTries is how often a folder is made that others remove because it is empty.
	folderTries = 100
)

// folder is a Store on a volume. It never leaves its root, and follows no symbolic link.
type folder struct{ root *os.Root }

var _ Store = (*folder)(nil)

func openFolder(name string) (*folder, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	return &folder{root: root}, nil
}

// Open implements Store.
func (f *folder) Open(_ context.Context, name string, r Range) (io.ReadCloser, Info, error) {
	if _, err := f.stat(name); err != nil {
		return nil, Info{}, err
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, Info{}, folderError("open", err)
	}
	found, err := file.Stat()
	if err != nil {
		return nil, Info{}, errors.Join(folderError("look at", err), file.Close())
	}
	info := fileInfo(name, found)
	if r.ETag != "" && info.ETag != r.ETag {
		return nil, info, errors.Join(ErrChanged, file.Close())
	}
	if _, err := file.Seek(r.Offset, io.SeekStart); err != nil {
		return nil, info, errors.Join(folderError("read", err), file.Close())
	}
	if r.Length > 0 {
		return limited{Reader: io.LimitReader(file, r.Length), Closer: file}, info, nil
	}
	return file, info, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// Create implements Store.
func (f *folder) Create(ctx context.Context, name string, content io.Reader, over Version) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	if err := f.plain(path.Dir(name)); err != nil {
		return Info{}, err
	}
	file, unfinished, err := f.begin(path.Dir(name))
	if err != nil {
		return Info{}, folderError("begin", err)
	}
	_, err = io.Copy(file, whileWanted{ctx, content})
	if err == nil {
		err = file.Sync()
	}
	var found fs.FileInfo
	if err == nil {
		found, err = file.Stat()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = f.replace(ctx, unfinished, name, over)
	}
	if err != nil {
		_ = f.root.Remove(unfinished) // else DropUnfinished does it
		return Info{}, folderError("write", err)
	}
	return fileInfo(name, found), f.syncFolder(path.Dir(name))
}

// replace gives a file the object's name. Whoever replaces a certain version does it alone.
func (f *folder) replace(ctx context.Context, unfinished, name string, over Version) (err error) {
	if over == AnyVersion {
		return f.root.Rename(unfinished, name)
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	found, err := f.stat(name)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case Version(found.ETag) != over:
		return ErrChanged
	}
	return f.root.Rename(unfinished, name)
}

// lock waits for the folder's lock, which ends with the process that has it.
func (f *folder) lock(ctx context.Context) (unlock func() error, err error) {
	file, err := f.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	for waited := time.Duration(0); ; waited += lockPoll {
		locked, err := tryLock(file)
		if err == nil && !locked {
			err = pause.For(ctx, lockPoll)
		}
		if err == nil && waited >= lockWait {
			err = errors.New("another process has locked the folder for too long")
		}
		switch {
		case err != nil:
			return nil, errors.Join(err, file.Close())
		case locked:
			return file.Close, nil
		}
	}
}

// begin makes a file that is no object yet.
func (f *folder) begin(parent string) (file *os.File, name string, err error) {
	name = path.Join(parent, unfinishedPrefix+rand.Text())
	for range folderTries {
		if err = f.root.MkdirAll(parent, 0o750); err == nil {
			file, err = f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		}
		// Gone between the two, or while the first looked whether what is there already is a folder.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return file, name, err
}

// syncFolder makes sure that a new name survives a loss of power.
func (f *folder) syncFolder(name string) error {
	parent, err := f.root.Open(name)
	if err != nil {
		return folderError("open the folder of", err)
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return folderError("sync the folder of", err)
	}
	return nil
}

// Stat implements Store.
func (f *folder) Stat(_ context.Context, name string) (Info, error) { return f.stat(name) }

func (f *folder) stat(name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	if err := f.plain(path.Dir(name)); err != nil {
		return Info{}, err
	}
	found, err := f.root.Lstat(name)
	if err != nil {
		return Info{}, folderError("look at", err)
	}
	if !found.Mode().IsRegular() {
		return Info{}, ErrNotFound
	}
	return fileInfo(name, found), nil
}

// plain refuses a folder that is there and is, or is below, something else, such as a symbolic link to another one.
func (f *folder) plain(name string) error {
	for end := range len(name) + 1 {
		if name == "." || (end < len(name) && name[end] != '/') {
			continue
		}
		found, err := f.root.Lstat(name[:end])
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return folderError("look at", err)
		}
		if !found.IsDir() {
			return ErrNotFound
		}
	}
	return nil
}

// List implements Store.
func (f *folder) List(ctx context.Context, name string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkFolder(name); err != nil {
			yield(Info{}, err)
			return
		}
		err := f.walk(ctx, name, func(at string, found fs.FileInfo) error {
			if CheckName(at) == nil && !yield(fileInfo(at, found), nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Info{}, folderError("list", err))
		}
	}
}

// walk calls each for every regular file. What goes away meanwhile is passed over.
func (f *folder) walk(ctx context.Context, name string, each func(at string, found fs.FileInfo) error) error {
	top := path.Clean("./" + name)
	switch err := f.plain(top); {
	case errors.Is(err, ErrNotFound): // what is no folder has nothing in it
		return nil
	case err != nil:
		return err
	}
	return fs.WalkDir(f.root.FS(), top, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && at != top && !validSegment(entry.Name()):
			return fs.SkipDir // not Atlas's, nor for it to read: lost+found
		case !entry.Type().IsRegular():
			return nil
		}
		found, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return each(at, found)
	})
}

// Delete implements Store. Folders that become empty go too.
func (f *folder) Delete(_ context.Context, name string) error {
	if _, err := f.stat(name); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return folderError("remove", err)
	}
	// Until one that has something in it.
	for parent, empty := path.Dir(name), true; empty && parent != "."; parent = path.Dir(parent) {
		empty = f.root.Remove(parent) == nil
	}
	return nil
}

// DropUnfinished implements Store.
func (f *folder) DropUnfinished(ctx context.Context, before time.Time) (dropped int64, err error) {
	err = f.walk(ctx, "", func(at string, found fs.FileInfo) error {
		if !strings.HasPrefix(path.Base(at), unfinishedPrefix) || !found.ModTime().Before(before) {
			return nil
		}
		dropped++
		return f.root.Remove(at)
	})
	if err != nil {
		return dropped, folderError("tidy", err)
	}
	return dropped, nil
}

func fileInfo(name string, found fs.FileInfo) Info {
	return Info{
		Name: name, Size: found.Size(), Modified: found.ModTime().UTC(),
		ETag: fmt.Sprintf("%x-%x-%x", found.ModTime().UnixNano(), found.Size(), identity(found)),
	}
}

// whileWanted ends a reading with its context.
type whileWanted struct {
	ctx context.Context
	in  io.Reader
}

func (r whileWanted) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(b)
}

// folderError keeps the volume's path out of what users see.
func folderError(doing string, err error) error {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.Is(err, ErrChanged):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotFound
	case errors.As(err, &at):
		err = at.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("%s a file in the object store: %w", doing, err)
}
