// PyTorch's own caching allocator on a card that does nothing: reads a program, prints its books after each step.
//
//     recorder CAP_BYTES CARD_BYTES < program
//
// A program has one step per line: `m SIZE` allocates (blocks are numbered from 0 in the order of these lines),
// `f NUMBER` frees, `e` empties the cache, `p` resets the peaks. A line of output is the address of the block
// handed out (0 if none, -1 if out of memory), then allocated, reserved and live bytes, their peaks, and retries.
// The functions below stand in front of libcudart's, because the linker asks the executable first.

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <vector>

namespace allocator = c10::cuda::CUDACachingAllocator;

namespace {
struct Segment {
  size_t size;
  long long name;  // its address as printed
};
size_t card_bytes, used_bytes, lowest = size_t{1} << 60;
long long named = 0;
std::map<void*, Segment, std::greater<>> segments;
}  // namespace

extern "C" {
// Addresses fall and nothing is behind them; the allocator never looks. What is printed counts up, so whoever
// goes by the address where PyTorch goes by the age of a segment differs.
cudaError_t cudaMalloc(void** pointer, size_t size) {
  if (used_bytes + size > card_bytes) return cudaErrorMemoryAllocation;
  lowest -= size;
  *pointer = reinterpret_cast<void*>(lowest);
  segments[*pointer] = {size, named};
  named += size;
  used_bytes += size;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  used_bytes -= segments.at(pointer).size;
  segments.erase(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = card_bytes - used_bytes;
  *total = card_bytes;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->totalGlobalMem = card_bytes;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return *least = *greatest = 0, cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
}

static void print_books(long long address) {
  const auto stats = allocator::getDeviceStats(0);
  const auto &allocated = stats.allocated_bytes[0], &reserved = stats.reserved_bytes[0],
             &live = stats.requested_bytes[0];
  std::printf("%lld %lld %lld %lld %lld %lld %lld %lld\n", address, (long long)allocated.current,
              (long long)reserved.current, (long long)live.current, (long long)allocated.peak,
              (long long)reserved.peak, (long long)live.peak, (long long)stats.num_alloc_retries);
}

static long long allocate(size_t size, std::vector<void*>& blocks) {
  blocks.push_back(nullptr);
  try {
    blocks.back() = allocator::raw_alloc(size);
  } catch (const c10::OutOfMemoryError&) {
    return -1;
  }
  if (!blocks.back()) return 0;
  const auto& [start, segment] = *segments.lower_bound(blocks.back());
  return segment.name + (static_cast<char*>(blocks.back()) - static_cast<char*>(start));
}

int main(int, char** arguments) {
  const size_t cap_bytes = std::strtoull(arguments[1], nullptr, 10);
  card_bytes = std::strtoull(arguments[2], nullptr, 10);
  allocator::init(1);
  if (cap_bytes < card_bytes) allocator::setMemoryFraction(double(cap_bytes) / double(card_bytes), 0);
  std::vector<void*> blocks;
  char step;
  while (std::scanf(" %c", &step) == 1) {
    size_t number = 0;
    if ((step == 'm' || step == 'f') && std::scanf("%zu", &number) != 1) return 2;
    long long address = 0;
    if (step == 'm') address = allocate(number, blocks);
    if (step == 'f') allocator::raw_delete(blocks.at(number));
    if (step == 'e') allocator::emptyCache();
    if (step == 'p') allocator::resetPeakStats(0);
    print_books(address);
  }
}
