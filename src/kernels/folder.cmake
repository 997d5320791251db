# Each instruction set is one file with its own machine flags; the program chooses at start.
set(isa ${PROJECT_SOURCE_DIR}/src/kernels/isa)
set(speed -O3)
if(SONDE_SANITIZE)  # a check for every load of every form at -O3 costs a compiler ten minutes
  set(speed -O1)
  if(SONDE_SANITIZE MATCHES undefined)
    list(APPEND speed -fno-sanitize=null,alignment,object-size,pointer-overflow)
  endif()
  if(SONDE_FUZZ)
    list(APPEND speed -fno-sanitize=fuzzer-no-link)
  endif()
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${isa}/avx2.cpp PROPERTIES COMPILE_OPTIONS "${speed};-mavx2;-mfma;-mf16c;-mbmi2")
  set_source_files_properties(${isa}/avx512.cpp PROPERTIES
    COMPILE_OPTIONS "${speed};-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mf16c;-mbmi2;-mprefer-vector-width=512")
  set_source_files_properties(${isa}/vnni.cpp PROPERTIES COMPILE_OPTIONS "${speed};-mavx512f;-mavx512bw;-mavx512vnni")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # gcc 12's own intrinsics read a value they leave undefined on purpose
    set_property(SOURCE ${isa}/avx512.cpp ${isa}/vnni.cpp APPEND PROPERTY COMPILE_OPTIONS -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
else()
  set_source_files_properties(${isa}/avx2.cpp ${isa}/avx512.cpp ${isa}/vnni.cpp PROPERTIES HEADER_FILE_ONLY TRUE)
endif()
set_source_files_properties(${isa}/portable.cpp PROPERTIES COMPILE_OPTIONS "${speed}")
